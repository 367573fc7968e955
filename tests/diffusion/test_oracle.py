"""The closed forms of the analytic distributions, each compared with another method."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.noise import project
from msdm_lite.diffusion.oracle import GaussianMixture, SpectralGaussian, band, gaussian
from msdm_lite.errors import InputError


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


@pytest.mark.parametrize("mixture", [False, True])
def test_denoiser_is_the_conditional_mean(pair, mixture, generator):
    """Against brute force: of many samples, those whose noisy point falls near x, on average."""
    count = 400_000
    clean = pair.sample(count, generator)
    conditioning = Conditioning(torch.full((count,), mixture), torch.zeros(count, 2, dtype=torch.bool))
    n = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    noisy = clean + 0.5 * project(n, conditioning)
    x = torch.tensor([[0.2, 0.1]], dtype=torch.float64)
    near = (noisy - x).abs().max(1).values < 0.05
    got = pair.denoise(x, torch.tensor([0.5], dtype=torch.float64),
                       Conditioning(torch.tensor([mixture]), torch.zeros(1, 2, dtype=torch.bool)))
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


def test_zero_sum_noise_at_high_sigma_is_the_posterior_mean(pair):
    """One evaluation is a supervised separator."""
    y = 0.4
    x = torch.tensor([[y / 2, y / 2]], dtype=torch.float64)
    got = pair.denoise(x, torch.tensor([1e4], dtype=torch.float64), Conditioning.on_mixture(x))
    post = pair.posterior(y)
    mean = (post.weights[:, None] * post.means).sum(0)
    assert torch.allclose(got[0, :1], mean, atol=1e-5)
    assert torch.allclose(got.sum(1), torch.tensor([y], dtype=torch.float64))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="do not fit"):
        GaussianMixture(torch.ones(1), torch.zeros(2, 2), torch.zeros(2, 2, 2))
    with pytest.raises(InputError, match="sum to one"):
        GaussianMixture(torch.ones(2), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2))


SHAPES = {"nothing": (False, ()), "the mixture": (True, ()), "one stem": (False, (1,)), "two stems": (False, (0, 2)),
          "both": (True, (1,)), "everything": (True, (0, 1, 2))}


EXACT = 1e-8  # variance that passes for none


def knowing(shape, S=3, B=1):
    mixture, stems = SHAPES[shape]
    return Conditioning(torch.full((B,), mixture), torch.tensor([[s in stems for s in range(S)]] * B))


@pytest.fixture
def three() -> GaussianMixture:
    """Three correlated sources with two modes, in double precision."""
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.4, 0.6], dtype=torch.float64),
                           torch.randn(2, 3, generator=generator, dtype=torch.float64),
                           roots @ roots.mT + 0.1 * torch.eye(3, dtype=torch.float64))


def conditioned(mean, covariance, rows, values):
    """Conditioning by information, not by covariance: the density of x times that of rows x = values, all but exact.

    An observation of variance v adds rows^T rows / v to the precision; v is small, but not too small for doubles.
    """
    precision = np.linalg.inv(covariance)
    total = precision + rows.T @ rows / EXACT
    return np.linalg.solve(total, precision @ mean + rows.T @ values / EXACT), np.linalg.inv(total)


def observed(shape, S=3):
    mixture, stems = SHAPES[shape]
    return np.array([[1.0] * S] * mixture + [np.eye(S)[s] for s in stems]).reshape(-1, S)


@pytest.mark.parametrize("shape", SHAPES)
def test_given_is_conditioning(three, shape):
    x = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    exact, rows = three.given(x, knowing(shape)), observed(shape)
    for k in range(2):
        mean, covariance = conditioned(three.means[k].numpy(), three.covariances[k].numpy(), rows, rows @ x.numpy())
        assert np.allclose(exact.means[k], mean, atol=1e-6)
        assert np.allclose(exact.covariances[k], covariance, atol=1e-6)
    if shape != "everything":  # there scipy would need a density in three dimensions of two numbers and their sum
        weights = [w.item() * (scipy.stats.multivariate_normal(rows @ m, rows @ c @ rows.T).pdf(rows @ x.numpy())
                               if len(rows) else 1.0)
                   for w, m, c in zip(three.weights, three.means.numpy(), three.covariances.numpy(), strict=True)]
        assert np.allclose(exact.weights, np.array(weights) / sum(weights), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_of_what_is_given_agree_with_it(three, shape, generator):
    """20 000 samples: moments to four standard errors; what is known is met by every one of them."""
    x = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    exact, rows = three.given(x, knowing(shape)), torch.from_numpy(observed(shape))
    samples = exact.sample(20_000, generator)
    assert torch.allclose(samples @ rows.T, (rows @ x).expand(20_000, -1), atol=1e-6)
    mean = exact.weights @ exact.means
    assert ((samples.mean(0) - mean).abs() <= 4 * samples.std(0) / 20_000**0.5 + 1e-7).all()
    squares = exact.covariances + exact.means[:, :, None] * exact.means[:, None]  # E[x x^T] of each component
    second = (exact.weights[:, None, None] * squares).sum(0)
    products = samples[:, :, None] * samples[:, None]
    assert ((products.mean(0) - second).abs() <= 4 * products.std(0) / 20_000**0.5 + 1e-7).all()


def unknown(shape, S=3):
    """Directions (S, D) in which nothing is known, orthonormal."""
    return scipy.linalg.null_space(observed(shape, S)) if SHAPES[shape] != (False, ()) else np.eye(S)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.05, 0.7, 8.0])
def test_the_denoiser_of_every_conditioning_is_the_conditional_mean(three, shape, level):
    """By quadrature: all clean sources that noise can have moved to x, weighted by the prior and by that noise.

    The grid reaches 9 deviations of the noise, or 18, which is 7 of the prior's widest. Its steps are below 0.8 of the
    narrowest deviation of the product, 0.31, where the error of the sum is 2 exp(-2 pi^2 / 0.8^2), under 1e-12.
    """
    x = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64)
    sigma, free, conditioning = torch.tensor([level], dtype=torch.float64), unknown(shape), knowing(shape)
    got = three.denoise(x, sigma, conditioning)[0]
    points, D = 151 if level > 2 else 101, free.shape[1]
    axis = np.linspace(-1, 1, points) * min(9 * level, 18)
    moved = axis[np.indices((points,) * D).reshape(D, points**D).T]  # (points^D, D); D = 0 is the one point x
    clean = x[0].numpy() + moved @ free.T
    density = sum(w.item() * scipy.stats.multivariate_normal(m, c).pdf(clean)
                  for w, m, c in zip(three.weights, three.means.numpy(), three.covariances.numpy(), strict=True))
    weight = density * np.exp(-0.5 * np.square(moved).sum(1) / level**2)
    assert np.allclose(got, weight @ clean / weight.sum(), rtol=0, atol=1e-8)
    rows = torch.from_numpy(observed(shape))
    assert torch.allclose(rows @ got, rows @ x[0], atol=1e-10)  # what is known comes back
    score = three.score(x, sigma, conditioning)[0]
    assert torch.allclose(score, (got - x[0]) / level**2)
    assert torch.allclose(rows @ score, torch.zeros(len(rows), dtype=torch.float64), atol=1e-9 / level**2)


def informed(mean, covariance, x, free, level):
    """The clean sources' mean by information: of all x + free z, the most likely, z under its noise and the prior.

    The precision of the prior and that of the noise add up; no covariance of the noisy sources is formed.
    """
    precision = np.linalg.inv(covariance)
    total = free.T @ precision @ free + np.eye(free.shape[1]) / level**2
    return x - free @ np.linalg.solve(total, free.T @ precision @ (x - mean))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.01, 0.7, 50.0])
def test_one_gaussian_is_denoised_by_information(shape, level):
    generator = torch.Generator().manual_seed(4)
    root, mean, x = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((5, 5), (5,), (1, 5)))
    source = gaussian(mean, root @ root.T + 0.05 * torch.eye(5, dtype=torch.float64))
    got = source.denoise(x, torch.tensor([level], dtype=torch.float64), knowing(shape, 5))[0]
    expected = informed(mean.numpy(), source.covariances[0].numpy(), x[0].numpy(), unknown(shape, 5), level)
    assert np.allclose(got, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_known_can_be_said_twice(three, shape):
    """Densities that are conditioned already: denoised and conditioned again, they say what the first ones say."""
    x, sigma = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    conditioning = knowing(shape)
    once = three.given(x[0], conditioning)
    twice = once.given(x[0], conditioning)
    for a, b in ((once.weights, twice.weights), (once.means, twice.means), (once.covariances, twice.covariances)):
        assert torch.allclose(a, b, atol=1e-10)
    noisy = x + 0.4 * project(torch.randn(1, 3, dtype=torch.float64), conditioning)
    assert torch.allclose(once.denoise(noisy, sigma, conditioning), three.denoise(noisy, sigma, conditioning),
                          atol=1e-10)
    assert torch.allclose(once.denoise(noisy, torch.tensor([1e-6], dtype=torch.float64), conditioning), noisy,
                          atol=1e-8)


def test_rounding_is_not_taken_for_information():
    """Fifty mixtures of sources from faint to loud, conditioned twice: what rounding left of the first changes nothing.

    Without a floor on what counts as variance, weights were off by up to one.
    """
    generator = torch.Generator().manual_seed(0)
    for S in (2, 3, 4, 5) * 12:
        roots = (torch.randn(3, S, S, generator=generator, dtype=torch.float64)
                 * 10 ** torch.randn(3, S, 1, generator=generator, dtype=torch.float64))
        source = GaussianMixture(torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64),
                                 torch.randn(3, S, generator=generator, dtype=torch.float64), roots @ roots.mT)
        x, sigma = torch.randn(1, S, generator=generator, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        conditioning = Conditioning(torch.tensor([True]), torch.rand(1, S, generator=generator) < 0.3)
        once = source.given(x[0], conditioning)
        twice = once.given(x[0], conditioning)
        assert torch.allclose(twice.means, once.means) and torch.allclose(twice.weights, once.weights)
        assert torch.allclose(once.denoise(x, sigma, conditioning), source.denoise(x, sigma, conditioning), atol=1e-8)


def test_what_is_known_can_be_said_one_after_the_other(three):
    x = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    both = three.given(x, knowing("both"))
    for first, second in (("the mixture", "one stem"), ("one stem", "the mixture")):
        step = three.given(x, knowing(first)).given(x, knowing(second))
        assert torch.allclose(step.weights, both.weights) and torch.allclose(step.means, both.means, atol=1e-10)
        assert torch.allclose(step.covariances, both.covariances, atol=1e-10)


def test_sources_that_are_copies():
    """A singular prior: half of the mixture is each, exactly, and one known stem is the other."""
    twins = gaussian(torch.zeros(2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64))
    x = torch.tensor([0.7, 0.7], dtype=torch.float64)
    for conditioning in (Conditioning.on_mixture(x[None]),
                         Conditioning(torch.tensor([False]), torch.tensor([[True, False]])),
                  Conditioning(torch.tensor([True]), torch.tensor([[True, True]]))):
        posterior = twins.given(x, conditioning)
        assert torch.allclose(posterior.means[0], x) and posterior.covariances.abs().max() < 1e-12
    samples = twins.sample(1000, torch.Generator().manual_seed(0))
    assert torch.allclose(samples[:, 0], samples[:, 1]) and samples[:, 0].std() > 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_density_of_the_conditioned_with_noise_is_torchs(three, shape):
    x = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    exact, at = three.given(x, knowing(shape)), x + 0.3 * torch.randn(5, 3, dtype=torch.float64)
    expected = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(exact.weights),
        torch.distributions.MultivariateNormal(exact.means, exact.covariances + 0.25 * torch.eye(3)))
    assert torch.allclose(exact.log_density(at, 0.5), expected.log_prob(at))


def test_samples_of_a_mixture_have_its_moments(three, generator):
    """40 000 samples, four standard errors, those of the covariance measured on the samples themselves."""
    samples = three.sample(40_000, generator)
    mean = three.weights @ three.means
    off = three.means - mean
    covariance = (three.weights[:, None, None] * (three.covariances + off[:, :, None] * off[:, None])).sum(0)
    assert ((samples.mean(0) - mean).abs() < 4 * (covariance.diagonal() / 40_000).sqrt()).all()
    products = (samples - mean)[:, :, None] * (samples - mean)[:, None]
    assert ((products.mean(0) - covariance).abs() < 4 * products.std(0) / 40_000**0.5).all()


def test_single_precision_in_and_out(three):
    """What is returned has the precision that was given, and is the double's to that."""
    single = GaussianMixture(three.weights.float(), three.means.float(), three.covariances.float())
    x = torch.randn(50, 3)
    for level in (0.01, 1.0, 100.0):
        for conditioning in (None, Conditioning.on_mixture(x)):
            got = single.denoise(x, torch.full((50,), level), conditioning)
            exact = three.denoise(x.double(), torch.full((50,), level).double(), conditioning)
            assert got.dtype == torch.float32 and torch.allclose(got.double(), exact, atol=2e-5)
    assert single.log_density(x).dtype == single.posterior(0.4).means.dtype == torch.float32


def test_one_gaussian(generator):
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    source = gaussian(torch.tensor([1.0, -1.0], dtype=torch.float64), covariance)
    samples = source.sample(50_000, generator)
    assert torch.allclose(samples.T.cov(), covariance, atol=4 * 2**0.5 / 50_000**0.5)
    # Context: one source says something of the other
    posterior = source.given(torch.tensor([2.0, 0.0], dtype=torch.float64),
                         Conditioning(torch.tensor([False]), torch.tensor([[True, False]])))
    assert posterior.means[0].tolist() == pytest.approx([2.0, -0.2])
    assert posterior.covariances[0, 1, 1].item() == pytest.approx(0.36)


def test_refused_distributions():
    eye = torch.eye(2).expand(5, 2, 2)
    for wrong, says in ((lambda: SpectralGaussian(eye, 10), "10 samples need"),
                        (lambda: SpectralGaussian(eye, 8, torch.zeros(2, 9)), "mean must be"),
                        (lambda: band(100, 1.0), "correlation"), (lambda: band(1), "two samples"),
                        (lambda: band(100, -0.1), "correlation"), (lambda: band(100, sample_rate=800), "1000 Hz"),
                        (lambda: gaussian(torch.zeros(2), torch.eye(3)), "do not fit"),
                        (lambda: gaussian(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.2, 1.0]])), "symmetric"),
                        (lambda: SpectralGaussian(1j * eye, 8), "real"),
                        (lambda: SpectralGaussian(eye[:, :1], 8), "need covariances"),
                        (lambda: SpectralGaussian(eye, 8).log_density(torch.zeros(1, 2, 9)), "8 samples do not fit"),
                        (lambda: SpectralGaussian(eye, 8).denoise(torch.zeros(1, 3, 8), torch.ones(1)), "do not fit"),
                        (lambda: gaussian(torch.zeros(2), torch.eye(2)).log_density(torch.zeros(4, 1)), "points must"),
                        (lambda: gaussian(torch.zeros(2), torch.eye(2)).given(torch.zeros(3), knowing("both")),
                         "point must"),
                        (lambda: gaussian(torch.zeros(2), torch.eye(2)).given(torch.zeros(2), knowing("both")),
                         "of 2 stems"),
                        (lambda: gaussian(torch.zeros(2), torch.eye(2)).denoise(torch.zeros(1, 2), torch.ones(1),
                                                                                 knowing("both")), "flags of 3"),
                        (lambda: SpectralGaussian(eye, 8).given(torch.zeros(2, 8), knowing("nothing", 2, 3)),
                         "not of a batch of 3")):
        with pytest.raises(InputError, match=says):
            wrong()
