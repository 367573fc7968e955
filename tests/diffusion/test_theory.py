"""The statements that the methods are based on, tested on analytic distributions and small networks."""

import pytest
import scipy.linalg
import torch
from torch import nn

from msdm_lite.diffusion import guidance, sampling
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import Denoiser, Denoiser1d, edm_loss, loss
from msdm_lite.diffusion.noise import add_noise, project
from msdm_lite.diffusion.oracle import GaussianMixture, SpectralGaussian, gaussian
from msdm_lite.diffusion.schedules import karras

DOUBLE = torch.float64


@pytest.fixture
def islands() -> GaussianMixture:
    """Two sources that are loud together, or not at all, or the second alone."""
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[1.0, 1.0], [-0.8, -0.6], [-0.9, 1.1]]),
                           torch.tensor([[[0.10, 0.05], [0.05, 0.08]], [[0.06, -0.02], [-0.02, 0.10]],
                                         [[0.05, 0.00], [0.00, 0.05]]]))


class Small(nn.Module):
    """A denoiser of points (B, S), preconditioned as in EDM for data of standard deviation one."""

    def __init__(self, S: int, width: int = 128):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(S + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                    nn.Linear(width, width), nn.SiLU(), nn.Linear(width, S))

    def forward(self, x, sigma, conditioning=None):
        s = sigma[:, None]
        total = s**2 + 1
        out = self.layers(torch.cat([x / total.sqrt(), s.log() / 4], 1))
        return x / total + s / total.sqrt() * out


def learn(source_samples, S, steps, low=-1.2, spread=1.2, seed=0, batch=1024):
    """Denoising score matching: all the network sees is samples, noise, and the way back."""
    torch.manual_seed(seed)
    net = Small(S)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    for _ in range(steps):
        x = source_samples(batch)
        sigma = (low + spread * torch.randn(batch)).exp()
        error = (net(add_noise(x, sigma), sigma) - x).square().mean(1)
        optimizer.zero_grad()
        (error * (sigma**2 + 1) / sigma**2).mean().backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
    return average.module.requires_grad_(False)


def test_the_minimiser_of_denoising_score_matching_is_the_exact_denoiser(islands):
    """The network never sees a score, a density or the oracle, and finds the conditional mean.

    Its mean squared distance to the oracle, against the error that the oracle itself cannot avoid: under 2 % at each
    level (with three seeds, 0.1 to 0.9 %, the most at level 0.3). That is also its excess loss: the loss is the error
    plus the distance, and twice the product of both, zero on average. With 40 000 numbers its deviation is
    2 sqrt(0.009 / 40 000), a thousandth of the error; five are allowed, and two were seen.
    """
    generator = torch.Generator().manual_seed(1)
    net, start = learn(islands.sample, 2, 1200), Small(2).requires_grad_(False)
    for level in (0.1, 0.3, 1.0, 3.0):
        x = islands.sample(20_000, generator)
        sigma = torch.full((20_000,), level)
        noisy = add_noise(x, sigma, generator=generator)
        exact, learned = islands.denoise(noisy, sigma), net(noisy, sigma)
        unavoidable, distance = ((exact - x).square().mean().item(),
                                 (learned - exact).square().mean().item())
        assert distance < 0.02 * unavoidable, level
        assert (learned - x).square().mean().item() - unavoidable == pytest.approx(distance, abs=0.005 * unavoidable)
        untrained = (start(noisy, sigma) - exact).square().mean().item()
        assert distance < 0.05 * untrained, level  # it was not so from the start


def double(source):
    return GaussianMixture(*(v.to(DOUBLE) / (v.to(DOUBLE).sum() if v.ndim == 1 else 1)
                             for v in (source.weights, source.means, source.covariances)))


@pytest.mark.parametrize("level", [0.03, 0.5, 10.0])
def test_tweedie(islands, level):
    source = double(islands)
    x = source.sample(8, torch.Generator().manual_seed(0)).requires_grad_()
    slope = torch.autograd.grad(source.log_density(x, level).sum(), x)[0]
    assert torch.allclose(source.score(x, torch.full((8,), level, dtype=DOUBLE)), slope, rtol=1e-8, atol=1e-9)


def test_tweedie_of_sounds():
    """The score of 9 and of 8 samples of two sounds is the slope of their log density: the edge bins count right."""
    generator = torch.Generator().manual_seed(0)
    for samples in (8, 9):
        roots = torch.randn(5, 2, 2, generator=generator, dtype=DOUBLE)
        source = SpectralGaussian(roots @ roots.mT, samples)
        x = torch.randn(3, 2, samples, generator=generator, dtype=DOUBLE).requires_grad_()
        slope = torch.autograd.grad(source.log_density(x, 0.3).sum(), x)[0]
        assert torch.allclose(source.score(x, torch.full((3,), 0.3, dtype=DOUBLE)), slope, rtol=1e-8, atol=1e-9)


KNOWN = {"the mixture": (True, ()), "one stem": (False, (1,)), "two stems": (False, (0, 2)), "both": (True, (1,))}


def knowing(shape, B, S=3):
    mixture, stems = KNOWN[shape]
    return Conditioning(torch.full((B,), mixture), torch.tensor([[s in stems for s in range(S)]] * B))


@pytest.fixture
def three() -> GaussianMixture:
    """Three correlated sources with two modes, in double precision."""
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(2, 3, 3, generator=generator, dtype=DOUBLE)
    return GaussianMixture(torch.tensor([0.4, 0.6], dtype=DOUBLE), torch.randn(2, 3, generator=generator, dtype=DOUBLE),
                           roots @ roots.mT + 0.1 * torch.eye(3, dtype=DOUBLE))


@pytest.mark.parametrize("shape", KNOWN)
@pytest.mark.parametrize("level", [0.1, 2.0])
def test_tweedie_with_every_conditioning(three, shape, level):
    """What is known, then noise: in coordinates z of what is unknown, the score is the slope of that log density.

    The density of z is torch's, of the components of `given` seen in these coordinates, with noise of the level.
    """
    x = torch.tensor([0.3, -0.2, 0.9], dtype=DOUBLE)
    projection = project(torch.eye(3, dtype=DOUBLE)[None], knowing(shape, 1))[0]
    free = torch.from_numpy(scipy.linalg.orth(projection.numpy()))  # (3, D)
    exact = three.given(x, knowing(shape, 1))
    clean = torch.distributions.MultivariateNormal(
        (exact.means - x) @ free, free.T @ exact.covariances @ free + level**2 * torch.eye(free.shape[1]))
    noisy = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(exact.weights), clean)
    z = torch.randn(6, free.shape[1], dtype=DOUBLE, requires_grad=True)
    slope = torch.autograd.grad(noisy.log_prob(z).sum(), z)[0]
    score = three.score(x + z.detach() @ free.T, torch.full((6,), level, dtype=DOUBLE), knowing(shape, 6))
    assert torch.allclose(score @ free, slope, rtol=1e-8, atol=1e-8)
    assert torch.allclose(score @ projection, score, atol=1e-9 / level**2)  # and nothing leads out of the subspace


@pytest.mark.parametrize("level", [0.1, 0.7, 5.0])
def test_tweedie_when_the_mixture_is_known(islands, level):
    """Inside the line x1 + x2 = y the score is the slope of the noisy posterior along that line."""
    source, y = double(islands), 0.4
    along = torch.tensor([1.0, -1.0], dtype=DOUBLE) / 2**0.5
    exact = source.given(torch.tensor([y, 0.0], dtype=DOUBLE), Conditioning.on_mixture(torch.zeros(1, 2)))
    place = torch.linspace(-2, 2, 9, dtype=DOUBLE, requires_grad=True)  # along the line, from its middle
    middle = torch.tensor([y / 2, y / 2], dtype=DOUBLE)
    variance = (along @ exact.covariances @ along)[None] + level**2
    off = place[:, None] - ((exact.means - middle) @ along)[None]
    density = (exact.weights.log() - 0.5 * off**2 / variance - 0.5 * variance.log()).logsumexp(1)
    slope = torch.autograd.grad(density.sum(), place)[0]
    x = (middle + place[:, None] * along).detach()
    score = source.score(x, torch.full((9,), level, dtype=DOUBLE), Conditioning.on_mixture(x))
    assert torch.allclose(score @ along, slope, rtol=1e-8, atol=1e-9)
    assert score.sum(1).abs().max() < 1e-9 / level**2  # and nothing leads off the line


def test_scores_are_zero_on_average_and_vary_as_information():
    """E[score] = 0 and, for a Gaussian, E[score score^T] is the inverse of the noisy covariance. 200 000 draws."""
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=DOUBLE)
    source = gaussian(torch.tensor([0.3, -1.0], dtype=DOUBLE), covariance)
    generator = torch.Generator().manual_seed(0)
    sigma = torch.full((200_000,), 0.4, dtype=DOUBLE)
    noisy = add_noise(source.sample(200_000, generator), sigma, generator=generator)
    score = source.score(noisy, sigma)
    information = torch.linalg.inv(covariance + 0.4**2 * torch.eye(2))
    assert (score.mean(0).abs() < 4 * (information.diagonal() / 200_000).sqrt()).all()
    scale = (information.diagonal()[:, None] * information.diagonal()).sqrt()
    assert ((score.T.cov() - information).abs() < 4 * scale * (2 / 200_000) ** 0.5).all()


def test_information_with_the_mixture_known():
    """The same inside the subspace, where the noisy covariance is that of the posterior plus the noise. 200 000 draws.

    All draws have one mixture, 1: they are samples of the posterior, and of noise that sums to zero.
    """
    covariance = torch.tensor([[1.0, 0.6, 0.1], [0.6, 0.5, 0.0], [0.1, 0.0, 0.3]], dtype=DOUBLE)
    source = gaussian(torch.tensor([0.3, -1.0, 0.2], dtype=DOUBLE), covariance)
    generator = torch.Generator().manual_seed(0)
    x = source.given(torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE), knowing("the mixture", 1)).sample(200_000, generator)
    conditioning, sigma = Conditioning.on_mixture(x), torch.full((200_000,), 0.4, dtype=DOUBLE)
    noisy = add_noise(x, sigma, conditioning, generator)
    score = source.score(noisy, sigma, conditioning)
    # The posterior's covariance by information: all of the prior's precision, seen inside the subspace
    free = torch.from_numpy(scipy.linalg.null_space([[1.0, 1.0, 1.0]]))  # (3, 2)
    left = torch.linalg.inv(free.T @ torch.linalg.inv(covariance) @ free)
    information = torch.linalg.inv(left + 0.4**2 * torch.eye(2))
    inside = score @ free
    assert (inside.mean(0).abs() < 4 * (information.diagonal() / 200_000).sqrt()).all()
    scale = (information.diagonal()[:, None] * information.diagonal()).sqrt()
    assert ((inside.T.cov() - information).abs() < 4 * scale * (2 / 200_000) ** 0.5).all()


def test_the_scores_square_is_minus_the_curvature(islands):
    """Fisher's other formula, for a mixture: E[score score^T] = -E[Hessian of log p]. 20 000 draws, 4 errors."""
    source, generator = double(islands), torch.Generator().manual_seed(0)
    sigma = torch.full((20_000,), 0.3, dtype=DOUBLE)
    x = add_noise(source.sample(20_000, generator), sigma, generator=generator).requires_grad_()
    score = source.score(x, sigma)
    curvature = torch.stack([torch.autograd.grad(score[:, s].sum(), x, retain_graph=True)[0] for s in range(2)], 1)
    score = score.detach()
    both = score[:, :, None] * score[:, None] + curvature  # zero on average
    assert (both.mean(0).abs() < 4 * both.std(0) / 20_000**0.5).all()
    assert (score.mean(0).abs() < 4 * score.std(0) / 20_000**0.5).all()


def test_the_score_says_what_was_added_on_average(islands):
    """sigma times the score is minus the noise's conditional mean: E[noise | x] = -sigma score(x)."""
    generator = torch.Generator().manual_seed(0)
    x = islands.sample(50_000, generator)
    n = torch.randn(x.shape, generator=generator)
    sigma = torch.full((50_000,), 0.6)
    estimate = -sigma[:, None] * islands.score(add_noise(x, sigma, n=n), sigma)
    # The rest of the noise is uncorrelated with every function of x, such as the estimate: 4 standard errors
    products = (n - estimate) * estimate
    assert (products.mean(0).abs() < 4 * products.std(0) / 50_000**0.5).all()


def test_dividing_a_source_by_two_doubles_its_score(islands):
    half = GaussianMixture(islands.weights, islands.means / 2, islands.covariances / 4)
    x, sigma = torch.tensor([[0.4, -0.3]]), torch.tensor([0.5])
    assert torch.allclose(half.score(x / 2, sigma / 2), 2 * islands.score(x, sigma), rtol=1e-5)


LEVELS = (0.002, 0.2, 20.0)


@pytest.mark.parametrize("level", LEVELS)
def test_edms_weights_make_every_level_worth_one(level):
    """White data of standard deviation 0.2: the network's target has variance one, an output of zero costs one."""

    class Nothing(nn.Module):
        def forward(self, x, time):
            return torch.zeros_like(x)

    generator = torch.Generator().manual_seed(0)
    x = 0.2 * torch.randn(64, 2, 512, generator=generator)
    sigma = torch.full((64,), level)
    each = edm_loss(Denoiser1d(Nothing(), 0.2, clamp=False), x, sigma, generator)
    assert each.mean().item() == pytest.approx(1, abs=4 * (2 / x.numel()) ** 0.5)
    # The target: the output of the net for which the denoiser is exact
    n = torch.randn(x.shape, generator=generator)
    total = level**2 + 0.2**2
    target = (x - 0.2**2 / total * (x + level * n)) * total**0.5 / (level * 0.2)
    assert target.std().item() == pytest.approx(1, abs=4 / (2 * x.numel()) ** 0.5)
    seen = (x + level * n) / total**0.5
    assert seen.std().item() == pytest.approx(1, abs=4 / (2 * x.numel()) ** 0.5)


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("level", LEVELS)
def test_per_bin_weights_make_every_level_and_bin_worth_one(level, tilt):
    """Data with a variance for every stem and bin: the Wiener filter costs one at any level, however bins are weighted.

    An offset of the estimate by one posterior standard deviation adds exactly one.
    """

    class Says(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.a = a

        def forward(self, x, embedding):
            out = torch.zeros(len(x), 6, *x.shape[2:])
            out[:, :2] = self.a
            return out

    generator = torch.Generator().manual_seed(0)
    std = torch.logspace(-2, 0, 32).expand(2, 32)
    x = std[:, :, None] * torch.randn(64, 2, 32, 16, generator=generator)
    values = [loss(Denoiser(Says(a), std, 8), x, torch.full((64,), level), Conditioning.none(x),
                   torch.Generator().manual_seed(1), tilt).mean().item() for a in (0.0, 1.0)]
    # tilt 1 weighs the loudest bins alone: about a seventh of the numbers count
    assert values[0] == pytest.approx(1, abs=4 * (2 / (x.numel() / 7)) ** 0.5)
    assert values[1] - values[0] == pytest.approx(1, abs=8 / (x.numel() / 7) ** 0.5)


@pytest.mark.parametrize("shape, cost", [("nothing", 3), ("the mixture", 2), ("one stem", 2), ("two stems", 1),
                                         ("both", 1)])
@pytest.mark.parametrize("level", LEVELS)
def test_each_thing_known_saves_the_loss_of_one_stem(level, shape, cost):
    """Independent Gaussians and a silent net: of S stems' loss of one each, what is known takes one away, at any level.
    The loss is the mean over the unknown stems.

    For a known stem that is plain. For the mixture: with uncertainties u of the stems, it leaves them the covariance
    diag(u) - u u^T / sum(u), and each is weighted by 1 / u, so the sum over the stems is S - 1.
    """

    class Silent(nn.Module):
        def forward(self, x, embedding):
            return torch.zeros(len(x), 9, *x.shape[2:])

    generator = torch.Generator().manual_seed(0)
    std = torch.tensor([0.05, 0.2, 1.0])[:, None] * torch.linspace(0.5, 1, 16)
    x = std[:, :, None] * torch.randn(64, 3, 16, 32, generator=generator)
    conditioning = Conditioning.none(x) if shape == "nothing" else knowing(shape, 64)
    got = loss(Denoiser(Silent(), std, 8), x, torch.full((64,), level), conditioning, generator, tilt=0).mean().item()
    # Squares of Gaussians vary by 2; single precision's share is (1e-7 * 20 / 0.002)^2, and counts for nothing
    unknown = (~conditioning.stems).float().sum(1).mean().item()
    assert got == pytest.approx(cost / unknown, abs=4 * (2 / x.numel() * 3 / unknown) ** 0.5)


def generate(net, count, S, generator):
    x = 20 * torch.randn(count, S, generator=generator)
    states = sampling.sample(x, karras(200, 1e-3, 20.0), guidance.unconditional(), net)
    return sampling.final_state(states).x


def test_a_diffusion_trained_on_samples_reproduces_their_covariance():
    """Three correlated sources. Trained on shuffled ones, the same network generates independent sources.

    Entries are known to 0.01 = sqrt(2 / 20 000). The sampler loses 0.02 of the variances (200 Euler steps; asserted
    below), the network as much again: with three seeds the worst entry was off by 0.02 to 0.05, and 0.08 is allowed.
    Sources that share nothing are off by 0.7, nine times that.
    """
    covariance = torch.tensor([[1.0, 0.7, -0.3], [0.7, 1.0, 0.2], [-0.3, 0.2, 1.0]])
    source = gaussian(torch.zeros(3), covariance)

    def shuffled(count):
        return torch.stack([source.sample(count)[:, s] for s in range(3)], 1)

    generator = torch.Generator().manual_seed(0)
    for samples, expected in ((source.sample, covariance), (shuffled, torch.eye(3))):
        net = learn(samples, 3, 800, low=-0.5, spread=1.6)
        generated = generate(net, 20_000, 3, generator)
        assert torch.allclose(generated.T.cov(), expected, atol=0.08), generated.T.cov()
        assert (generated.mean(0).abs() < 0.08).all()
    assert (generated.T.cov() - covariance).abs().max() > 0.6  # the shuffled ones' copy: the context is gone
    exact = generate(source.denoise, 20_000, 3, generator)
    assert torch.allclose(exact.T.cov(), covariance, atol=0.05)  # the sampler's own share
