import math
from itertools import pairwise

import pytest
import scipy.integrate
import torch

from msdm_lite.diffusion import guidance, sampling
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.imputation import Replacement
from msdm_lite.diffusion.noise import project
from msdm_lite.diffusion.oracle import GaussianMixture
from msdm_lite.diffusion.samplers import SAMPLERS, dpm_solver, euler, heun
from msdm_lite.diffusion.sampling import Sampler, final_state, final_x
from msdm_lite.diffusion.schedules import exponential, karras
from msdm_lite.errors import DivergenceError, InputError
from tests.diffusion.running import run


@pytest.fixture
def correlated() -> GaussianMixture:
    return GaussianMixture(torch.ones(1, dtype=torch.float64), torch.tensor([[0.5, -0.5]], dtype=torch.float64),
                           torch.tensor([[[1.0, 0.6], [0.6, 0.5]]], dtype=torch.float64))


@pytest.mark.parametrize("sampler", [euler, heun, dpm_solver])
def test_samplers_solve_the_ode(correlated, sampler):
    """Against scipy's adaptive Runge-Kutta solution of dx/dsigma = (x - D(x, sigma)) / sigma."""
    x = 5 * torch.randn(4, 2, dtype=torch.float64)

    def slope(sigma, flat):
        at = torch.from_numpy(flat).reshape(4, 2)
        return ((at - correlated.denoise(at, torch.full((4,), sigma, dtype=at.dtype))) / sigma).flatten().numpy()

    exact = scipy.integrate.solve_ivp(slope, (5.0, 0.01), x.flatten().numpy(), rtol=1e-9, atol=1e-9).y[:, -1]
    got = final_state(run(sampler, x, exponential(400, 0.01, 5.0)[:-1], guidance.unconditional(), correlated.denoise)).x
    assert (got.flatten() - torch.from_numpy(exact)).abs().max() < (0.02 if sampler is euler else 1e-3)


def test_churn_and_corrections_keep_heuns_samples_right(correlated):
    g = torch.Generator().manual_seed(0)
    x = 20 * torch.randn(5000, 2, generator=g, dtype=torch.float64)
    got = final_state(run(heun, x, karras(60, 1e-3, 20), guidance.unconditional(), correlated.denoise, 10.0, 2,
                           generator=g)).x
    assert (got.mean(0) - correlated.means[0]).abs().max() < 0.06
    assert (got.T.cov() - correlated.covariances[0]).abs().max() < 0.1


def test_heun_costs_two_evaluations_and_the_others_one(correlated):
    for sampler, expected in ((euler, 6), (heun, 11), (dpm_solver, 6)):
        calls = []
        final_state(run(sampler, torch.ones(1, 2).double(), karras(6, 0.1, 1.0), guidance.unconditional(),
                     lambda x, s, calls=calls: calls.append(1) or correlated.denoise(x, s)))
        assert len(calls) == expected


def test_replacement_of_the_paper_step_by_step(correlated):
    """Imputation as published, written out, against ours: same noise, same states."""
    given, mask = torch.tensor([[0.7, 0.0]]).double().expand(3, 2), torch.tensor([True, False])
    steps, churn, R = 20, 4.0, 3
    sigmas = karras(steps, 1e-2, 5.0)
    start = 5 * torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.Generator().manual_seed(2)
    x, g = start.clone(), min(churn / steps, 2**0.5 - 1)
    ours = run(euler, start, sigmas, guidance.unconditional(), correlated.denoise, churn, R,
                 constraint=Replacement(given, mask), generator=torch.Generator().manual_seed(2))
    for s, following, state in zip(sigmas, sigmas[1:], ours, strict=False):
        conditioning = given + s * torch.randn(x.shape, generator=noise, dtype=x.dtype)
        for r in range(R):
            x = conditioning * mask + x * ~mask
            raised = s * (1 + g)
            x = x + torch.randn(x.shape, generator=noise, dtype=x.dtype) * (raised**2 - s**2) ** 0.5
            d = (x - correlated.denoise(x, torch.full((3,), raised, dtype=x.dtype))) / raised
            x = x + d * (following - raised)
            if r < R - 1:
                x = x + torch.randn(x.shape, generator=noise, dtype=x.dtype) * (s**2 - following**2) ** 0.5
        assert torch.allclose(state.x[:, 1], x[:, 1])
    assert torch.equal(state.x[:, 0], given[:, 0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_constrained_values_are_returned_unchanged(correlated, name):
    x, constraint = torch.randn(3, 2).double(), Replacement(torch.full((3, 2), 0.3).double(),
                                                            torch.tensor([False, True]))
    before = constraint.given.clone(), x.clone()
    end = final_state(run(SAMPLERS[name], x, karras(8, 0.1, 3.0), guidance.unconditional(), correlated.denoise,
                                     constraint=constraint)).x
    assert torch.equal(end[:, 1], constraint.given[:, 1]) and end[:, 0].std() > 0
    assert torch.equal(before[0], constraint.given) and torch.equal(before[1], x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_given_stems_alone_do_as_whole_ones(correlated, name):
    """The constraint can leave out the stems that are not given: the states are the same."""
    x, given = torch.randn(3, 2).double(), torch.randn(3, 2).double()
    whole = Replacement(given, torch.tensor([False, True]))
    alone = Replacement(given[:, 1:], torch.tensor([True]), stems=[1])
    a, b = (final_state(run(SAMPLERS[name], x, karras(8, 0.1, 3.0), guidance.unconditional(), correlated.denoise,
                                       constraint=constraint,
                                generator=torch.Generator().manual_seed(2))).x for constraint in (whole, alone))
    assert torch.equal(a, b) and torch.equal(a[:, 1], given[:, 1])


def test_heuns_estimate_is_that_of_its_second_derivative(correlated):
    """x0 of the state is the estimate of the last derivative, at the end of an Euler step."""
    x, sigma, following = torch.randn(3, 2).double(), 3.0, 1.0
    level = torch.full((3,), following, dtype=torch.float64)
    state = next(run(heun, x, [sigma, following, 0.0], guidance.unconditional(), correlated.denoise))
    d = (x - correlated.denoise(x, level * sigma)) / sigma
    assert torch.allclose(state.x0, correlated.denoise(x + (following - sigma) * d, level))


def test_dpm_solver_takes_no_churn(correlated):
    for settings in ({"churn": 1.0}, {"corrections": 2}):
        with pytest.raises(InputError, match="no churn"):
            run(dpm_solver, torch.zeros(1, 2), [1.0, 0.0], guidance.unconditional(), correlated.denoise, **settings)


def test_increasing_levels_are_refused(correlated):
    x = torch.zeros(1, 2, dtype=torch.float64)
    for sampler in SAMPLERS.values():
        for levels in ([1.0, 2.0], [1.0], [1.0, 1.0, 0.0], [1.0, -1.0], [float("nan"), 0.0], [float("inf"), 0.0]):
            with pytest.raises(InputError, match="must decrease"):
                next(run(sampler, x, levels, guidance.unconditional(), correlated.denoise))
    with pytest.raises(InputError, match="churn must be"):
        run(euler, x, [1.0, 0.0], guidance.unconditional(), correlated.denoise, churn=-1.0)  # before the first step
    with pytest.raises(InputError, match="R must be"):
        next(run(euler, x, [1.0, 0.0], guidance.unconditional(), correlated.denoise, corrections=0))


@pytest.mark.parametrize("churn, corrections", [(0.0, 1), (20.0, 1), (20.0, 2)])
def test_prior_is_recovered(correlated, churn, corrections):
    """Mean and covariance of unconditional samples are the oracle's, with and without churn and corrections."""
    g = torch.Generator().manual_seed(0)
    x = 20 * torch.randn(5000, 2, generator=g, dtype=torch.float64)
    got = final_state(run(euler, x, karras(150, 1e-3, 20), guidance.unconditional(), correlated.denoise, churn,
                          corrections, generator=g)).x
    # standard errors 0.014 and 0.02; the rest is Euler's error at 150 steps, up to 0.09 where R = 2 (it halves at 300)
    assert (got.mean(0) - correlated.means[0]).abs().max() < 0.06
    assert (got.T.cov() - correlated.covariances[0]).abs().max() < 0.15


def test_eulers_error_halves_with_the_steps(correlated):
    """First order: against a run with very many steps, from the same start."""
    x = 20 * torch.randn(100, 2, dtype=torch.float64)
    ends = {n: final_state(run(euler, x, karras(n, 1e-3, 20), guidance.unconditional(), correlated.denoise)).x
            for n in (50, 100, 1600)}
    coarse, fine = ((ends[n] - ends[1600]).abs().mean().item() for n in (50, 100))
    assert 1.7 < coarse / fine < 2.5


def test_every_state_is_yielded_with_its_estimate(correlated):
    x = torch.randn(3, 2, dtype=torch.float64)
    states = list(run(euler, x, [1.0, 0.5, 0.0], guidance.unconditional(), correlated.denoise))
    assert [s.sigma for s in states] == [0.5, 0.0]
    assert torch.allclose(states[0].x0, correlated.denoise(x, torch.ones(3, dtype=torch.float64)))
    assert torch.allclose(states[-1].x, states[-1].x0)  # at zero noise the state is the estimate


def test_the_mixture_never_leaves_the_state(correlated):
    x = project(torch.randn(3, 2, dtype=torch.float64), Conditioning.on_mixture(torch.zeros(3, 2))) + 0.5
    states = run(euler, x, karras(10, 0.01, 1.0), guidance.mixture_constrained(), correlated.denoise, churn=5.0,
                   constraint=Conditioning.on_mixture(x))
    assert all(torch.allclose(s.x.sum(1), torch.ones(3, dtype=torch.float64)) for s in states)


def test_same_generator_same_states(correlated):
    runs = [final_state(run(euler, torch.ones(2, 2, dtype=torch.float64), karras(5, 0.1, 1.0), guidance.unconditional(),
                       correlated.denoise, churn=2.0, generator=torch.Generator().manual_seed(seed))).x
            for seed in (3, 3, 4)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_the_end_is_that_of_the_last_state(correlated):
    def again():
        return run(euler, torch.ones(2, 2).double(), karras(5, 0.1, 1.0), guidance.unconditional(), correlated.denoise,
                     churn=2.0, generator=torch.Generator().manual_seed(3))

    assert torch.equal(final_x(again()), final_state(again()).x)
    with pytest.raises(InputError, match="no step"):
        final_x(iter(()))


@pytest.mark.parametrize("sampler", [euler, heun, dpm_solver])
def test_nan_from_the_denoiser_stops_and_names_the_level(sampler):
    def broken(x, sigma):
        return x * (torch.nan if sigma[0] < 0.6 else 1.0)

    with pytest.raises(FloatingPointError, match=r"sigma = 0\.5"):
        final_state(run(sampler, torch.zeros(1, 2), [1.0, 0.5, 0.0], guidance.unconditional(), broken))


def halved(x, sigma):
    return 0.5 * x


def still(x, sigma, denoise):
    """A guidance with derivative 0."""
    return torch.zeros_like(x)


def listening():
    """A guidance with derivative 0, and a list of the states and levels of its calls."""
    seen = []

    def derivative(x, sigma, denoise):
        seen.append((x, sigma))
        return torch.zeros_like(x)

    return derivative, seen


def test_a_sampler_counts_its_evaluations():
    assert [Sampler(step).evaluations(6) for step in ("euler", "heun", "dpm-solver")] == [6, 11, 6]
    assert Sampler(heun, corrections=3).evaluations(6) == 33
    with pytest.raises(InputError, match="no sampler 'magic'"):
        Sampler("magic")


def test_a_step_of_ones_own(correlated):
    """The midpoint rule in four lines: second order, as its error against a fine run shows."""
    def midpoint(x, sigma, following, derivative, memory):
        middle = (sigma * following) ** 0.5
        d = derivative(x + (middle - sigma) * derivative(x, sigma), middle)
        return x + (following - sigma) * d, x - sigma * d

    x = 5 * torch.randn(50, 2).double()
    ends = {n: final_state(run(midpoint, x, exponential(n, 0.01, 5.0)[:-1], guidance.unconditional(),
                               correlated.denoise)).x for n in (25, 50, 400)}
    coarse, fine = ((ends[n] - ends[400]).norm().item() for n in (25, 50))
    assert 3.0 < coarse / fine < 5.0


@pytest.mark.parametrize("sampler", [euler, heun])
def test_churn_that_is_no_number_from_0_is_refused(sampler):
    for churn in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="churn must be"):
            run(sampler, torch.zeros(1, 2), [1.0, 0.0], still, halved, churn=churn)


def test_churn_raises_a_level_by_the_root_of_two_at_most():
    """EDM, algorithm 2: min(S_churn / N, sqrt(2) - 1)."""
    listen, seen = listening()
    final_state(run(euler, torch.zeros(1, 2).double(), [1.0, 0.5, 0.0], listen, halved, churn=1000.0))
    assert [sigma[0].item() for _, sigma in seen] == pytest.approx([2**0.5, 0.5 * 2**0.5])


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_item_gets_the_level_in_the_precision_of_its_state(name):
    listen, seen = listening()
    next(run(SAMPLERS[name], torch.zeros(3, 2).double(), [0.3, 0.1], listen, halved))
    _, sigma = seen[0]
    assert sigma.dtype == torch.float64 and sigma.tolist() == [0.3] * 3


def test_the_level_lies_where_the_state_lies():
    x, seen = torch.empty(3, 2, device="meta"), []

    def listen(x, sigma, denoise):
        seen.append(sigma.device)
        raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration):
        next(run(euler, x, [0.5, 0.1], listen, halved))
    assert seen == [x.device]


@pytest.mark.parametrize("sampler", [euler, heun])
def test_no_noise_that_is_added_moves_a_known_mixture(sampler):
    """Churn and corrections are all that moves here, in steps of about one; the sum is off by their rounding."""
    x = torch.full((3, 2), 0.5, dtype=torch.float64)
    states = list(run(sampler, x, karras(6, 0.1, 1.0), still, halved, 2.0, 3, Conditioning.on_mixture(x),
                          generator=torch.Generator().manual_seed(0)))
    assert all((state.x.sum(1) - 1).abs().max() < 1e-12 for state in states)
    assert (states[-1].x - x).abs().max() > 0.1


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_constraint_is_imposed_with_noise_of_the_level(name):
    x, given = torch.zeros(3, 2).double(), torch.full((3, 2), 0.3).double()
    listen, seen = listening()
    next(run(SAMPLERS[name], x, [2.0, 1.0], listen, halved, constraint=Replacement(given, torch.tensor([False, True])),
             generator=torch.Generator().manual_seed(4)))
    n = torch.randn(3, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    shown, _ = seen[0]
    assert torch.allclose(shown[:, 1], 0.3 + 2.0 * n[:, 1])
    assert not shown[:, 0].any()  # the rest stays


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_ode_draws_no_noise(name):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    final_state(run(SAMPLERS[name], torch.ones(1, 2).double(), [1.0, 0.5, 0.0], guidance.unconditional(), halved,
                        generator=generator))
    assert torch.equal(generator.get_state(), before)


def test_dpm_solver_of_the_paper_step_by_step(correlated):
    """Lu et al., 2211.01095, algorithm 2, with alpha = 1 and lambda = -ln sigma, on uneven steps: state by state."""
    sigmas, x = karras(6, 0.05, 4.0), 4 * torch.randn(2, 2).double()
    before = last_step = None
    states = run(dpm_solver, x, sigmas, guidance.unconditional(), correlated.denoise)
    for (sigma, following), state in zip(pairwise(sigmas), states, strict=True):
        x0 = correlated.denoise(x, torch.full((2,), sigma, dtype=torch.float64))
        if following == 0:
            x = x0
        else:
            step = math.log(sigma) - math.log(following)
            ahead = x0
            if before is not None:
                r = last_step / step
                ahead = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
            x = following / sigma * x - math.expm1(-step) * ahead
            before, last_step = x0, step
        assert state.sigma == following
        assert torch.allclose(state.x, x, rtol=1e-9, atol=1e-12)  # rounding alone
        assert torch.allclose(state.x0, x0, rtol=1e-9, atol=1e-12)


def test_a_sampler_without_a_step_has_no_last_state():
    with pytest.raises(InputError, match="no step"):
        final_state(iter(()))


@pytest.mark.parametrize("sampler, alike", [(dpm_solver, True), (euler, False)])
def test_replacement_holds_its_noise_where_a_step_remembers(correlated, sampler, alike):
    """A multistep method joins estimates of one trajectory: the noise of the given part is the same at every level."""
    given, seen = torch.tensor([[0.7, 0.0]]).double().expand(3, 2), []

    def spy(x, sigma, conditioning=None):
        seen.append(((x - given)[:, 0] / sigma).clone())
        return correlated.denoise(x, sigma)

    start = 5 * torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    states = run(sampler, start, karras(8, 1e-2, 5.0), guidance.unconditional(), spy,
                 constraint=Replacement(given, torch.tensor([True, False])),
                 generator=torch.Generator().manual_seed(2))
    assert torch.equal(final_x(states)[:, 0], given[:, 0])  # clean at the end
    assert all(torch.allclose(noise, seen[0]) for noise in seen) is alike


def growing(x, sigma, denoise):
    """A guidance with which the state grows fourfold in a step that halves the level."""
    return -6 * x / sigma[0]


@pytest.mark.parametrize("sampler", [euler, heun])
def test_a_state_beyond_its_noise_stops_with_a_remedy(sampler):
    """4, 16, 64, 256 times the first state with Euler: the limit of 100 is exceeded after the fourth step."""
    x, levels = torch.ones(2, 3).double(), [2.0**-n for n in range(8)]
    seen = []
    with pytest.raises(DivergenceError, match=r"than 8 steps, churn below 0\.3, fewer corrections than 2, another"):
        for state in run(sampler, x, levels, growing, halved, 0.3, 2, generator=torch.Generator().manual_seed(0)):
            seen.append(state)
    assert all(state.x.square().mean(1).sqrt().max() <= 100 for state in seen)
    seen.clear()
    with pytest.raises(DivergenceError, match=r"sigma = 0\.0625 its state is 256 times as .*: more than 8 steps, an"):
        for state in run(euler, x, levels, growing, halved):
            seen.append(state.x[0, 0].item())
    assert seen == [4, 16, 64]


def test_the_limit_is_of_every_item_and_of_what_is_known():
    """One item of two grows: it alone is held to its own first state, and to a mixture where that is louder."""
    x = torch.tensor([[1.0, 1.0], [1000.0, 1000.0]]).double()
    levels = [2.0**-n for n in range(6)]

    def first_grows(x, sigma, denoise):
        return torch.stack([-6 * x[0] / sigma[0], torch.zeros_like(x[1])])

    def ends(limit=100.0, known=()):
        return len(list(sampling.sample(x, levels, first_grows, halved, Sampler(limit=limit), known=known)))

    with pytest.raises(DivergenceError):
        ends()
    assert ends(known=[torch.tensor([[11.0], [0.0]])]) == 5  # 4^5 = 1024 is within 100 times 11
    assert ends(limit=1025.0) == ends(limit=float("inf")) == 5
    with pytest.raises(DivergenceError):
        ends(known=[torch.tensor([[0.0], [11.0]])])  # another item's
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="limit"):
            Sampler(limit=limit)


def test_a_first_state_of_zeros_may_grow_to_its_noise():
    got = final_state(run(euler, torch.zeros(1, 2), [1.0, 0.5, 0.0], lambda x, s, d: torch.full_like(x, -90.0), halved))
    assert got.x.tolist() == [[90.0, 90.0]]


def test_too_small_a_c_diverges_and_the_message_names_it(correlated):
    y = torch.full((50,), 0.3).double()
    x = 10 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(DivergenceError, match=r"more than 20 steps, c above 0\.2, another method"):
        final_x(run(euler, x, karras(20, 0.01, 10.0), guidance.gaussian(y, 0.2), correlated.denoise))
    got = final_x(run(euler, x, karras(20, 0.01, 10.0), guidance.gaussian(y), correlated.denoise))
    assert got.abs().max() < 10


@pytest.mark.parametrize("corrections", [1, 3])
def test_churn_within_zero_sum_noise_has_its_whole_size(corrections):
    """The noise of churn raises the level of the state in the subspace of what is unknown, and not beside it.

    A white state (B, S) projected on the subspace has S - 1 dimensions of variance sigma^2; after a churn of gamma
    these have (sigma (1 + gamma))^2.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(40000, 3, dtype=torch.float64)
    known = Conditioning.on_mixture(x)
    x = project(torch.randn(x.shape, generator=generator, dtype=x.dtype), known) + 0.5
    listen, seen = listening()
    final_state(run(euler, x, [1.0, 0.5, 0.0], listen, halved, 0.6, corrections, known, generator))
    gamma, variance = 0.3, 1.0  # the state stays as it is, so all noise that is added is seen in the next call
    for call, (state, sigma) in enumerate(seen):
        level = 1.0 if call < corrections else 0.5
        variance += level**2 * ((1 + gamma) ** 2 - 1)
        assert sigma[0].item() == pytest.approx(level * (1 + gamma))
        noise = state - 0.5
        assert noise.sum(1).abs().max() < 1e-12
        assert noise.square().sum(1).mean().item() == pytest.approx(2 * variance, rel=0.02)  # standard error 0.5 %
        if call % corrections < corrections - 1:  # the noise that leads back up to the level
            variance += level**2 - (level / 2 if level == 1.0 else 0.0) ** 2
