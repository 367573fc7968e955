import numpy as np
import pytest
import scipy.stats
import torch

from msdm_lite.errors import InputError
from msdm_lite.known import Known, project
from msdm_lite.oracle import GaussianMixture, SpectralGaussian, band, gaussian


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


SHAPES = {"nothing": (False, ()), "the mixture": (True, ()), "one stem": (False, (1,)), "two stems": (False, (0, 2)),
          "both": (True, (1,)), "everything": (True, (0, 1, 2))}


EXACT = 1e-8  # variance that passes for none


def knowing(shape, S=3, B=1):
    mixture, stems = SHAPES[shape]
    return Known(torch.full((B,), mixture), torch.tensor([[s in stems for s in range(S)]] * B))


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
    """20 000 samples: means to four standard errors; what is known is met by every one of them."""
    x = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
    exact, rows = three.given(x, knowing(shape)), torch.from_numpy(observed(shape))
    samples = exact.sample(20_000, generator)
    assert torch.allclose(samples @ rows.T, (rows @ x).expand(20_000, -1), atol=1e-6)
    mean = exact.weights @ exact.means
    assert ((samples.mean(0) - mean).abs() <= 4 * samples.std(0) / 20_000**0.5 + 1e-7).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.05, 0.7, 8.0])
def test_denoiser_of_every_shape_is_the_conditional_mean(three, shape, level):
    """Against conditioning the joint Gaussian of clean and noisy sources, component by component."""
    x = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64)
    known = knowing(shape)
    noise = level**2 * project(torch.eye(3, dtype=torch.float64)[None], known)[0].numpy()
    means, logs = [], []
    for w, m, c in zip(three.weights, three.means.numpy(), three.covariances.numpy(), strict=True):
        total = c + noise
        means.append(m + c @ np.linalg.inv(total) @ (x[0].numpy() - m))
        logs.append(np.log(w.item()) + scipy.stats.multivariate_normal(m, total).logpdf(x[0].numpy()))
    shares = np.exp(np.array(logs) - max(logs))
    expected = shares / shares.sum() @ np.array(means)
    sigma = torch.tensor([level], dtype=torch.float64)
    got = three.denoise(x, sigma, known)[0]
    assert np.allclose(got, expected, atol=1e-8)
    rows = torch.from_numpy(observed(shape))
    assert torch.allclose(rows @ got, rows @ x[0], atol=1e-8)  # what is known comes back
    assert torch.allclose(three.score(x, sigma, known)[0], (got - x[0]) / level**2)


def test_one_gaussian(generator):
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    source = gaussian(torch.tensor([1.0, -1.0], dtype=torch.float64), covariance)
    samples = source.sample(50_000, generator)
    assert torch.allclose(samples.T.cov(), covariance, atol=4 * 2**0.5 / 50_000**0.5)
    # Context: one source says something of the other
    heard = source.given(torch.tensor([2.0, 0.0], dtype=torch.float64),
                         Known(torch.tensor([False]), torch.tensor([[True, False]])))
    assert heard.means[0].tolist() == pytest.approx([2.0, -0.2])
    assert heard.covariances[0, 1, 1].item() == pytest.approx(0.36)


@pytest.fixture(params=[8, 9], ids=["even", "odd"])
def sound(request) -> SpectralGaussian:
    """Three short correlated sounds with a mean."""
    generator = torch.Generator().manual_seed(request.param)
    roots = torch.randn(request.param // 2 + 1, 3, 3, generator=generator, dtype=torch.float64)
    return SpectralGaussian(roots @ roots.mT + 0.1 * torch.eye(3, dtype=torch.float64), request.param,
                            torch.randn(3, request.param, generator=generator, dtype=torch.float64))


def dense(sound):
    """The covariance (S T, S T) written out: circulant between every two sources."""
    T, S = sound.samples, sound.covariances.shape[1]
    full = np.concatenate([sound.covariances.numpy(), sound.covariances.numpy()[1 : (T + 1) // 2][::-1]])  # all T
    dft = np.exp(-2j * np.pi * np.outer(np.arange(T), np.arange(T)) / T) / T**0.5
    blocks = np.einsum("ft,fab,fu->atbu", dft.conj(), full, dft)
    assert abs(blocks.imag).max() < 1e-12
    return blocks.real.reshape(S * T, S * T)


def test_sounds_have_the_density_of_the_circulant_gaussian(sound):
    x = torch.randn(4, 3, sound.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = scipy.stats.multivariate_normal(sound.mean.flatten(), dense(sound) + 0.3**2 * np.eye(x[0].numel()))
    assert np.allclose(sound.log_density(x, 0.3), expected.logpdf(x.flatten(1)))


@pytest.mark.parametrize("shape", SHAPES)
def test_sounds_are_denoised_as_the_circulant_gaussian_says(sound, shape):
    x = torch.randn(2, 3, sound.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma, known = torch.tensor([0.2, 3.0], dtype=torch.float64), knowing(shape, B=2)
    got = sound.denoise(x, sigma, known)
    projection = project(torch.eye(3, dtype=torch.float64)[None], knowing(shape))[0].numpy()
    for row, level in enumerate(sigma.numpy()):
        C = dense(sound)
        noise = level**2 * np.kron(projection, np.eye(sound.samples))
        off = (x[row] - sound.mean).flatten().numpy()
        expected = sound.mean.flatten().numpy() + C @ np.linalg.solve(C + noise, off)
        assert np.allclose(got[row].flatten(), expected, atol=1e-8)
    assert torch.allclose(sound.score(x, sigma, known), (got - x) / sigma[:, None, None] ** 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_sounds_given_some(sound, shape, generator):
    x = torch.randn(3, sound.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact, rows = sound.given(x, knowing(shape)), np.kron(observed(shape), np.eye(sound.samples))
    mean, covariance = conditioned(sound.mean.flatten().numpy(), dense(sound), rows, rows @ x.flatten().numpy())
    if shape == "nothing":
        assert exact is sound
    assert np.allclose(exact.mean.flatten(), mean, atol=1e-6)
    assert np.allclose(dense(exact), covariance, atol=1e-6)
    samples = exact.sample(4000, generator).double()
    assert np.allclose(samples.flatten(1).numpy() @ rows.T, rows @ x.flatten().numpy(), atol=1e-5)  # single precision
    error = (samples.mean(0) - exact.mean).abs().flatten()
    assert (error <= 4.5 * torch.from_numpy(covariance.diagonal().clip(0)).sqrt() / 4000**0.5 + 1e-5).all()


def test_samples_of_sounds_have_their_covariance(sound, generator):
    """Every entry is known to about sqrt(2 / count) of the variances; five of those are allowed."""
    samples = sound.sample(20_000, generator).flatten(1)
    expected = dense(sound)
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert (abs(np.cov(samples.T.numpy()) - expected) < 5 * scale * (2 / 20_000) ** 0.5).all()


def test_a_band_of_gaussians():
    music = band(2**15, context=0.4)
    stems = music.sample(4, torch.Generator().manual_seed(0))
    assert stems.shape == (4, 4, 2**15) and stems.dtype == torch.float32
    # A comb of a few lines is a few independent numbers: its power varies from draw to draw
    assert torch.allclose(stems.square().mean((0, 2)).sqrt(), torch.tensor(0.06), rtol=0.35)
    exact = music.covariances.diagonal(dim1=1, dim2=2)
    power = (2 * exact.sum(0) - exact[0] - exact[-1]) / 2**15
    assert torch.allclose(power.sqrt(), torch.tensor(0.06).double())
    between = music.covariances / (exact[:, :, None] * exact[:, None]).sqrt()
    assert torch.allclose(between[:, 0, 3], torch.tensor(0.4).double())
    mixture = stems.sum(1)
    for context in (0.0, 0.4):  # knowing how the sources go together separates better, and the right filter is best
        found = band(2**15, context).given(stems[0], Known.the_mixture(stems[:1])).mean
        assert torch.allclose(found.sum(0).float(), mixture[0], atol=1e-5)
    errors = [(band(2**15, c).given(stems[0], Known.the_mixture(stems[:1])).mean - stems[0]).square().mean()
              for c in (0.4, 0.0)]
    assert errors[0] < errors[1]


def test_oracles_that_cannot_be():
    eye = torch.eye(2).expand(5, 2, 2)
    for wrong, says in ((lambda: SpectralGaussian(eye, 10), "10 samples need"),
                        (lambda: SpectralGaussian(eye, 8, torch.zeros(2, 9)), "mean must be"),
                        (lambda: band(100, 1.0), "correlation"), (lambda: band(1), "two samples"),
                        (lambda: SpectralGaussian(eye, 8).given(torch.zeros(2, 8), knowing("nothing", 2, 3)),
                         "not a batch of 3")):
        with pytest.raises(InputError, match=says):
            wrong()
