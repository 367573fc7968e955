from itertools import pairwise

import pytest
import torch

from msdm_lite.diffusion import guidance, methods, sampling
from msdm_lite.diffusion.conditioning import Conditioning, Task
from msdm_lite.diffusion.noise import project
from msdm_lite.diffusion.oracle import GaussianMixture, gaussian
from msdm_lite.diffusion.samplers import euler, heun
from msdm_lite.diffusion.sampling import final_state
from msdm_lite.diffusion.schedules import karras
from msdm_lite.errors import InputError
from tests.diffusion.running import run

VARIANCE = torch.tensor([1.0, 0.25, 0.5], dtype=torch.float64)


@pytest.fixture
def independent() -> GaussianMixture:
    """Three independent sources of different width, one mode."""
    return GaussianMixture(torch.ones(1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64),
                           torch.diag(torch.tensor([1.0, 0.25, 0.5], dtype=torch.float64))[None])


def build(name: str, y: torch.Tensor):
    return {"unconditional": guidance.unconditional, "gaussian": lambda: guidance.gaussian(y),
            "dirac": lambda: guidance.dirac(y, 1), "mixture_known": guidance.mixture_constrained,
            "wiener": lambda: guidance.wiener(y, VARIANCE), "pigdm": lambda: guidance.pigdm(y, VARIANCE),
            "classifier_free": lambda: guidance.classifier_free(lambda x, s: 0.5 * x, 1.5),
            "conditioned": lambda: guidance.conditioned(Conditioning.on_stems(torch.zeros(4, 3), [0], mixture=True)),
            "following": lambda: guidance.conditioned_with_weight(Conditioning.on_stems(torch.zeros(4, 3), [0]),
                                                                  torch.ones(4, 3).double(), 2.0)
            }[name]()


@pytest.mark.parametrize("name", ["unconditional", "gaussian", "dirac", "mixture_known", "wiener", "pigdm",
                                  "classifier_free", "conditioned", "following"])
def test_arguments_are_left_alone(independent, name):
    y, x = torch.randn(4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    sigma = torch.full((4,), 0.3, dtype=torch.float64)
    before = x.clone(), sigma.clone(), y.clone()
    d = build(name, y)(x, sigma, independent.denoise)
    assert d.shape == x.shape
    assert all(torch.equal(a, b) for a, b in zip(before, (x, sigma, y), strict=True))


def test_the_unconditional_derivative_is_minus_sigma_times_the_score(independent):
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    score = torch.autograd.grad(independent.log_density(x, 0.3).sum(), x)[0]
    sigma = torch.full((5,), 0.3, dtype=torch.float64)
    assert torch.allclose(guidance.unconditional()(x, sigma, independent.denoise), -0.3 * score)


def test_gaussian_adds_the_score_of_its_likelihood(independent):
    """By automatic differentiation of log p(x) + log N(y; sum x, (c sigma)^2)."""
    x, y, s, c = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(5).double(), 0.3, 0.9
    log = independent.log_density(x, s) - (y - x.sum(1)) ** 2 / (2 * (c * s) ** 2)
    score = torch.autograd.grad(log.sum(), x)[0]
    got = guidance.gaussian(y, c)(x, torch.full((5,), s, dtype=torch.float64), independent.denoise)
    assert torch.allclose(got, -s * score)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_dirac_is_the_score_along_the_constraint(independent, k):
    """By automatic differentiation of log p with stem k written as the rest."""
    y, s = torch.randn(5).double(), 0.3
    free = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def full(f):
        others = list(f.T)
        others.insert(k, y - f.sum(1))
        return torch.stack(others, 1)

    score = torch.autograd.grad(independent.log_density(full(free), s).sum(), free)[0]
    x = full(free.detach())
    got = guidance.dirac(y, k)(x, torch.full((5,), s, dtype=torch.float64), independent.denoise)
    assert torch.allclose(got[:, [n for n in range(3) if n != k]], -s * score)
    assert got.sum(1).abs().max() < 1e-12  # and the sum stays where it is


def test_dirac_does_not_see_the_stem_it_computes(independent):
    x, y = torch.randn(2, 3, dtype=torch.float64), torch.randn(2).double()
    sigma = torch.full((2,), 0.3, dtype=torch.float64)
    other = x.clone()
    other[:, 1] += 5
    estimate = [z - 0.3 * guidance.dirac(y, 1)(z, sigma, independent.denoise) for z in (x, other)]
    assert torch.allclose(estimate[0], estimate[1])
    assert torch.allclose(estimate[0].sum(1), y)


def test_dirac_of_the_paper_step_by_step(independent):
    """The published algorithm, written out with its in-place overwriting, against ours: same noise, same states."""
    k, y, steps, churn, R = 0, torch.tensor([0.7, -0.2]).double(), 30, 5.0, 2
    sigmas = karras(steps, 1e-2, 1.0)
    start = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.Generator().manual_seed(2)
    x, theirs = start.clone(), []
    g = min(churn / steps, 2**0.5 - 1)
    for s, following in pairwise(sigmas):
        for r in range(R):
            raised = s * (1 + g)
            x = x + torch.randn(x.shape, generator=noise, dtype=x.dtype) * (raised**2 - s**2) ** 0.5
            x[:, k] = y - (x.sum(1) - x[:, k])
            d = (x - independent.denoise(x, torch.full((2,), raised, dtype=x.dtype))) / raised
            d = d - d[:, k : k + 1]
            x = x + d * (following - raised)
            if r < R - 1:
                x = x + torch.randn(x.shape, generator=noise, dtype=x.dtype) * (s**2 - following**2) ** 0.5
        theirs.append(x[:, 1:].clone())
    published = guidance.dirac(y, k).derivative  # whose last step leaves noise of the last level
    ours = run(euler, start, sigmas, published, independent.denoise, churn, R,
               generator=torch.Generator().manual_seed(2))
    for state, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(state.x[:, 1:], expected)
    assert torch.allclose(state.x.sum(1), y)  # the paper's last step, which its code leaves out


@pytest.mark.parametrize("sampler", [euler, heun])
@pytest.mark.parametrize("name", ["dirac", "gaussian"])
def test_no_noise_of_the_last_level_is_left(name, sampler):
    """Where the clean stems are known exactly, they are what a sampler ends on, however high the last level is."""
    clean = torch.tensor([[0.3, -0.2, 0.5]]).double().expand(4, 3)
    made = {"dirac": guidance.dirac, "gaussian": guidance.gaussian}[name](clean.sum(1))
    end = final_state(run(sampler, torch.randn(4, 3).double(), karras(6, 0.3, 1.0), made, lambda x, s, c=None: clean))
    assert torch.allclose(end.x, clean) and torch.equal(end.x, end.x0)
    left = final_state(run(sampler, torch.randn(4, 3).double(), karras(6, 0.3, 1.0), made.derivative,
                           lambda x, s, c=None: clean, 2.0))
    assert (left.x - clean).std() > 0.01  # with churn, a step along the derivative ends on noise


def test_gaussian_of_the_paper_step_by_step(independent):
    """The published derivative, with its gamma = 0.75 sigma and 2 gamma^2, against ours: same noise, same states."""
    y, steps, churn, R = torch.tensor([0.7, -0.2]).double(), 30, 5.0, 2
    sigmas = karras(steps, 1e-2, 1.0)
    start = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.Generator().manual_seed(2)
    x, g = start.clone(), min(churn / steps, 2**0.5 - 1)
    ours = run(euler, start, sigmas, guidance.gaussian(y).derivative, independent.denoise, churn, R,
               generator=torch.Generator().manual_seed(2))
    for s, following, state in zip(sigmas, sigmas[1:], ours, strict=False):
        for r in range(R):
            raised = s * (1 + g)
            x = x + torch.randn(x.shape, generator=noise, dtype=x.dtype) * (raised**2 - s**2) ** 0.5
            d = (x - independent.denoise(x, torch.full((2,), raised, dtype=x.dtype))) / raised
            d = d - raised / (2 * (0.75 * raised) ** 2) * (y - x.sum(1))[:, None]
            x = x + d * (following - raised)
            if r < R - 1:
                x = x + torch.randn(x.shape, generator=noise, dtype=x.dtype) * (s**2 - following**2) ** 0.5
        assert torch.allclose(state.x, x)


def test_wiener_shares_make_the_estimate_sum_to_the_mixture(independent):
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5).double()
    sigma = torch.full((5,), 0.4, dtype=torch.float64)
    estimate = x - 0.4 * guidance.wiener(y, VARIANCE)(x, sigma, independent.denoise)
    assert torch.allclose(estimate.sum(1), y)
    moved = estimate - independent.denoise(x, sigma)
    left = VARIANCE * 0.16 / (VARIANCE + 0.16)
    assert torch.allclose(moved / moved.sum(1, keepdim=True), (left / left.sum()).expand(5, 3))


def test_pigdm_is_the_score_of_its_likelihood(independent):
    """By automatic differentiation of log p(x) + log N(y; sum D(x), posterior variance of that sum)."""
    x, y, s = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.randn(5).double(), 0.3
    sigma = torch.full((5,), s, dtype=torch.float64)
    uncertain = (VARIANCE * s**2 / (VARIANCE + s**2)).sum()
    log = independent.log_density(x, s) - (y - independent.denoise(x, sigma).sum(1)) ** 2 / (2 * uncertain)
    score = torch.autograd.grad(log.sum(), x)[0]
    with torch.no_grad():  # it makes its own gradients
        got = guidance.pigdm(y, VARIANCE)(x, sigma, independent.denoise)
    assert torch.allclose(got, -s * score) and not got.requires_grad


def test_the_gradient_of_pigdm_is_clipped(independent):
    """By the norm of the correction of `wiener`, for each item; where it is smaller, nothing changes."""
    x, y, sigma = torch.randn(5, 3).double(), torch.randn(5).double(), torch.full((5,), 0.4, dtype=torch.float64)

    def wild(x, sigma):  # its Jacobian is ten times too large in two of the items
        return independent.denoise(x, sigma) + torch.tensor([0, 0, 0, 9, 9]).double()[:, None] * (x - x.detach())

    plain, free, bounded = (guide(x, sigma, wild) for guide in (
        guidance.wiener(y, VARIANCE), guidance.pigdm(y, VARIANCE), guidance.pigdm(y, VARIANCE, gradient_clip=1.0)))
    assert torch.allclose(bounded[:3], free[:3]) and torch.allclose(bounded[:3], plain[:3])
    base = (x - wild(x, sigma)) / 0.4
    lengths = [(base - d).norm(dim=1)[3:] for d in (plain, bounded, free)]
    assert torch.allclose(lengths[0], lengths[1]) and (lengths[2] > 5 * lengths[0]).all()


def test_classifier_free_goes_from_the_prior_to_the_conditional_and_beyond(independent):
    x, sigma = torch.randn(5, 3, dtype=torch.float64), torch.full((5,), 0.4, dtype=torch.float64)
    conditional = independent.given(torch.tensor([0.5, 0.2, 0.1]).double(), Conditioning.on_mixture(x[:1])).denoise

    def estimate(weight):
        return x - 0.4 * guidance.classifier_free(conditional, weight)(x, sigma, independent.denoise)

    plain = guidance.classifier_free(conditional)(x, sigma, independent.denoise)
    assert torch.equal(x - 0.4 * plain, estimate(1.0))

    assert torch.allclose(estimate(0.0), independent.denoise(x, sigma)) and torch.allclose(estimate(1.0),
                                                                                conditional(x, sigma))
    assert torch.allclose(estimate(3.0) - estimate(1.0), 2 * (estimate(1.0) - estimate(0.0)))


def test_several_constrained_stems_are_used_in_turn(independent):
    """Each for a quarter of an octave; the same level has the same one, whatever came before."""
    x, y = torch.randn(5, 3).double(), torch.randn(5).double()
    rotating = guidance.dirac(y, (0, 2, 1))
    for quarters, k in ((0.5, 0), (1.5, 2), (2.5, 1), (3.5, 0), (2.5, 1), (0.5, 0), (-0.5, 1)):
        sigma = torch.full((5,), 2 ** (-quarters / 4), dtype=torch.float64)
        assert torch.equal(rotating(x, sigma, independent.denoise), guidance.dirac(y, k)(x, sigma, independent.denoise))


def test_a_guidance_that_is_used_again_gives_the_same(independent):
    x, y = 5 * torch.randn(5, 3).double(), torch.randn(5).double()
    rotating = guidance.dirac(y, (0, 1, 2))
    once, again = (sampling.final_x(run(heun, x, karras(7, 1e-2, 5.0), rotating, independent.denoise))
                   for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", ["gaussian", "dirac", "wiener", "pigdm"])
def test_among_leaves_the_other_stems_to_the_prior(independent, name):
    """A mixture of two stems steers those two as if the third were not there, and the third not at all."""
    x, y, sigma = torch.randn(5, 3).double(), torch.randn(5).double(), torch.full((5,), 0.4, dtype=torch.float64)
    two = GaussianMixture(independent.weights, independent.means[:, 1:], independent.covariances[:, 1:, 1:])
    part = {"gaussian": lambda v, **k: guidance.gaussian(y, **k), "wiener": lambda v, **k: guidance.wiener(y, v, **k),
            "pigdm": lambda v, **k: guidance.pigdm(y, v, **k)}
    if name == "dirac":
        got = guidance.dirac(y, 2, among=[1, 2])(x, sigma, independent.denoise)
        alone = guidance.dirac(y, 1)(x[:, 1:], sigma, two.denoise)
    else:
        got = part[name](VARIANCE, among=[1, 2])(x, sigma, independent.denoise)
        alone = part[name](VARIANCE[1:])(x[:, 1:], sigma, two.denoise)
    assert torch.allclose(got[:, 1:], alone)
    assert torch.allclose(got[:, :1], guidance.unconditional()(x, sigma, independent.denoise)[:, :1])


def sampled(oracle, guide, y, conditioning=None, steps=100, count=4000):
    """Samples (count, S) of a guidance, without churn."""
    n = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    conditioning = Conditioning.on_mixture(n) if conditioning else None
    x = 20.0 * project(n, conditioning) + (y / 3 if conditioning else 0)
    return final_state(run(euler, x, karras(steps, 1e-3, 20.0), guide, oracle.denoise, constraint=conditioning)).x


def test_mixture_constrained_samples_the_exact_posterior(independent):
    y = 1.5
    exact = independent.posterior(y)
    got = sampled(independent, guidance.mixture_constrained(), y, conditioning=True)
    assert torch.allclose(got.sum(1), torch.full((4000,), y, dtype=torch.float64))
    # standard error of a mean 0.01, of a variance 0.012; the rest is Euler's error at 100 steps
    assert (got[:, :2].mean(0) - exact.means[0]).abs().max() < 0.04
    assert (got[:, :2].T.cov() - exact.covariances[0]).abs().max() < 0.05


def test_dirac_is_biased_even_on_gaussians(independent):
    """The constrained stem has the noise of all others, but the denoiser gets sigma: the bias is recorded here."""
    y = 1.5
    exact = independent.posterior(y)
    got = sampled(independent, guidance.dirac(torch.full((4000,), y, dtype=torch.float64), 2), y)
    more = sampled(independent, guidance.dirac(torch.full((4000,), y, dtype=torch.float64), 2), y, steps=200)
    off, off_more = ((z[:, :2].T.cov() - exact.covariances[0]).abs().max().item() for z in (got, more))
    assert off > 0.05  # four times the sampling error
    assert abs(off - off_more) < 0.5 * off  # and more steps do not remove it


def test_settings_without_meaning_are_refused():
    y, x = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(InputError, match="positive"):
        guidance.gaussian(y, 0.0)
    with pytest.raises(InputError, match="no stem 3"):
        guidance.dirac(y, 3)(x, torch.ones(2), lambda x, s: x)
    with pytest.raises(InputError, match="no stem 0"):
        guidance.dirac(y, 0, among=[1, 2])(x, torch.ones(2), lambda x, s: x)
    for among in ([], [3], [-1]):
        with pytest.raises(InputError, match="not some of 3"):
            guidance.gaussian(y, among=among)(x, torch.ones(2), lambda x, s: x)
    with pytest.raises(InputError, match="0 or more"):
        guidance.classifier_free(lambda x, s: x, -1.0)


def test_a_weight_exaggerates_the_effect_of_given_stems():
    """Two correlated sources, the first given: in closed form, between and beyond the means with and without it."""
    c, fixed, s = 0.8, 1.5, 0.4
    pair = gaussian(torch.zeros(2).double(), torch.tensor([[1.0, c], [c, 1.0]]).double())
    conditioning = Conditioning.on_stems(torch.zeros(1, 2), [0])
    x, n = torch.tensor([[fixed, 0.3]]).double(), torch.tensor([[-0.7, 9.0]]).double()  # of n only the given counts
    sigma = torch.full((1,), s, dtype=torch.float64)
    conditional = pair.denoise(x, sigma, conditioning)[0, 1]
    blind = pair.denoise(torch.tensor([[fixed - s * 0.7, 0.3]]).double(), sigma)[0, 1]
    for weight in (0.0, 1.0, 2.5):
        d = guidance.conditioned_with_weight(conditioning, n, weight)(x, sigma, pair.denoise)
        assert d[0, 0] == 0
        assert torch.allclose(x[0, 1] - s * d[0, 1], blind + weight * (conditional - blind))
    assert torch.allclose(guidance.conditioned_with_weight(conditioning, n)(x, sigma, pair.denoise),
                          guidance.conditioned(conditioning)(
        x, sigma, pair.denoise))
    for weight in (float("inf"), float("nan"), -0.1):
        with pytest.raises(InputError, match="weight"):
            guidance.conditioned_with_weight(conditioning, n, weight)
        with pytest.raises(InputError, match="weight"):
            guidance.classifier_free(pair.denoise, weight)
    plain = guidance.conditioned_with_weight(conditioning, n)(x, sigma, pair.denoise)  # not exaggerated unless asked
    assert torch.equal(plain, guidance.conditioned_with_weight(conditioning, n, 1.0)(x, sigma, pair.denoise))
    with pytest.raises(InputError, match="weight"):
        guidance.conditioned_with_weight(conditioning, n, -1.0)


def test_a_weight_on_imputation_needs_given_stems():
    pair = gaussian(torch.zeros(2).double(), torch.eye(2).double() + 0.5)
    method = methods.IMPUTATIONS["stems-given"].replace(weight=2.0, steps=40, sigma_max=80.0)
    assert method.nfe == 80
    given = torch.full((2000, 2), 1.5).double()
    ends = {}
    for weight in (1.0, 2.0):
        states = methods.sample(Task((2000, 2), given=given, stems=[0]), pair.denoise, method.replace(weight=weight),
                                torch.Generator().manual_seed(0))
        ends[weight] = sampling.final_x(states)
        assert torch.allclose(ends[weight][:, 0], given[:, 0])
    # The exact mean is 0.5 / 1.5 * 1.5 = 0.5; a weight of 2 goes beyond it
    assert ends[1.0][:, 1].mean().item() == pytest.approx(0.5, abs=0.08)  # 2000 draws of standard deviation 1.15: 0.026
    assert ends[2.0][:, 1].mean() > ends[1.0][:, 1].mean() + 0.1
    with pytest.raises(InputError, match="given stems without a mixture"):
        methods.sample(Task((2000, 2), given.sum(1)), pair.denoise, method)


def filtered(x, sigma):
    """The exact denoiser of independent Gaussians of these variances, for points and for spectrograms."""
    v, s2 = VARIANCE.reshape(-1, *[1] * (x.ndim - 2)), sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2
    return x * v / (v + s2)


def test_a_likelihood_that_is_infinitely_wide_is_refused():
    for c in (float("inf"), float("nan"), -1.0):
        with pytest.raises(InputError, match="positive"):
            guidance.gaussian(torch.zeros(2), c)


def test_dirac_constrains_the_first_stem_by_default():
    x, y, sigma = torch.randn(5, 3).double(), torch.randn(5).double(), torch.full((5,), 0.4, dtype=torch.float64)
    assert torch.equal(guidance.dirac(y)(x, sigma, filtered), guidance.dirac(y, 0)(x, sigma, filtered))


def test_a_gradient_within_its_bound_is_not_changed():
    """The gradient of an exact denoiser has the norm of the correction of `wiener`: a third of the bound here."""
    x, y, sigma = torch.randn(5, 3).double(), torch.randn(5).double(), torch.full((5,), 0.4, dtype=torch.float64)
    free, bounded = (guidance.pigdm(y, VARIANCE, gradient_clip=gradient_clip)(x, sigma, filtered)
                     for gradient_clip in (float("inf"), 3.0))
    assert torch.equal(bounded, free)


def test_there_is_no_correction_where_the_estimate_sums_to_the_mixture():
    x, sigma = torch.randn(5, 3).double(), torch.full((5,), 0.4, dtype=torch.float64)
    y = filtered(x, sigma).sum(1)
    for gradient_clip in (float("inf"), 1.0):
        got = guidance.pigdm(y, VARIANCE, gradient_clip=gradient_clip)(x, sigma, filtered)
        assert torch.allclose(got, guidance.unconditional()(x, sigma, filtered))


@pytest.mark.parametrize("among", [None, [0, 2]])
@pytest.mark.parametrize("name", ["gaussian", "dirac", "wiener", "pigdm"])
def test_spectrograms_are_guided_at_each_coefficient(name, among):
    """Every coefficient as the point that it is: no guidance mixes bins, frames or items."""
    guide = {"gaussian": lambda y, v: guidance.gaussian(y, among=among),
             "dirac": lambda y, v: guidance.dirac(y, 2, among),
             "wiener": lambda y, v: guidance.wiener(y, v, among),
             "pigdm": lambda y, v: guidance.pigdm(y, v, among)}[name]
    x, y, sigma = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 4, 5).double(), torch.tensor([0.4, 1.3]).double()
    got = guide(y, VARIANCE[:, None, None])(x, sigma, filtered)
    points, sums = x.movedim(1, -1).reshape(-1, 3), y.flatten()
    alone = guide(sums, VARIANCE)(points, sigma.repeat_interleave(20), filtered)
    assert got.shape == x.shape and torch.allclose(got.movedim(1, -1).reshape(-1, 3), alone)


def test_a_derivative_has_the_precision_of_its_state():
    x, y, sigma = torch.randn(4, 3).bfloat16(), torch.randn(4).bfloat16(), torch.full((4,), 0.5).bfloat16()
    for guide in (guidance.gaussian(y), guidance.dirac(y, 1)):
        assert guide(x, sigma, lambda x, sigma: 0.5 * x).dtype == x.dtype


def test_what_names_the_stems_lies_where_they_lie():
    x = torch.empty(2, 3, 4, device="meta")
    assert guidance.selector(x, None).device == x.device
