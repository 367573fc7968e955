import pytest
import scipy.stats
import torch

from msdm_lite.errors import InputError
from msdm_lite.known import Known, project
from msdm_lite.oracle import GaussianMixture


@pytest.fixture
def pair() -> GaussianMixture:
    """Two correlated sources with two modes, in double precision."""
    return GaussianMixture(torch.tensor([0.3, 0.7], dtype=torch.float64),
                           torch.tensor([[1.0, -1.0], [-0.5, 0.8]], dtype=torch.float64),
                           torch.tensor([[[0.2, 0.1], [0.1, 0.3]], [[0.1, -0.02], [-0.02, 0.05]]],
                                        dtype=torch.float64))


def test_density_is_scipys(pair):
    x = torch.randn(5, 2, dtype=torch.float64)
    expected = sum(w.item() * scipy.stats.multivariate_normal(m, c + 0.25 * torch.eye(2).numpy()).pdf(x)
                   for w, m, c in zip(pair.weights, pair.means.numpy(), pair.covariances.numpy(), strict=True))
    assert torch.allclose(pair.log_density(x, 0.5).exp(), torch.from_numpy(expected))


def test_tweedie(pair):
    """(denoise(x) - x) / sigma^2 is the gradient of the log density."""
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    score = torch.autograd.grad(pair.log_density(x, 0.4).sum(), x)[0]
    sigma = torch.full((6,), 0.4, dtype=torch.float64)
    assert torch.allclose((pair.denoise(x, sigma) - x) / 0.4**2, score, atol=1e-10)


@pytest.mark.parametrize("mixture", [False, True])
def test_denoiser_is_the_conditional_mean(pair, mixture, generator):
    """Against brute force: of many samples, those whose noisy point falls near x, on average."""
    count = 400_000
    clean = pair.sample(count, generator)
    known = Known(torch.full((count,), mixture), torch.zeros(count, 2, dtype=torch.bool))
    n = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    noisy = clean + 0.5 * project(n, known)
    x = torch.tensor([[0.2, 0.1]], dtype=torch.float64)
    near = (noisy - x).abs().max(1).values < 0.05
    got = pair.denoise(x, torch.tensor([0.5], dtype=torch.float64),
                       Known(torch.tensor([mixture]), torch.zeros(1, 2, dtype=torch.bool)))
    spread = clean[near].std(0) / near.sum() ** 0.5
    # 4 standard errors, and the box's own width bends the mean by no more than 0.01
    assert ((got[0] - clean[near].mean(0)).abs() < 4 * spread + 0.01).all()


def test_posterior_is_the_density_on_the_line(pair):
    y = 0.4
    post = pair.posterior(y)
    line = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    joint = pair.log_density(torch.stack([line, y - line], 1)).exp()
    joint = joint / joint.sum()
    mine = post.log_density(line[:, None]).exp()
    assert torch.allclose(mine / mine.sum(), joint, atol=1e-9)


def test_mixture_known_at_high_sigma_is_the_posterior_mean(pair):
    """One evaluation is a supervised separator."""
    y = 0.4
    x = torch.tensor([[y / 2, y / 2]], dtype=torch.float64)
    got = pair.denoise(x, torch.tensor([1e4], dtype=torch.float64), Known.the_mixture(x))
    post = pair.posterior(y)
    mean = (post.weights[:, None] * post.means).sum(0)
    assert torch.allclose(got[0, :1], mean, atol=1e-5)
    assert torch.allclose(got.sum(1), torch.tensor([y], dtype=torch.float64))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="do not fit"):
        GaussianMixture(torch.ones(1), torch.zeros(2, 2), torch.zeros(2, 2, 2))
    with pytest.raises(InputError, match="sum to one"):
        GaussianMixture(torch.ones(2), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2))
