import pytest
import torch

from msdm_lite import guidance
from msdm_lite.errors import InputError
from msdm_lite.known import Known, project
from msdm_lite.oracle import GaussianMixture
from msdm_lite.sampling import euler, karras, last


@pytest.fixture
def correlated() -> GaussianMixture:
    return GaussianMixture(torch.ones(1, dtype=torch.float64), torch.tensor([[0.5, -0.5]], dtype=torch.float64),
                           torch.tensor([[[1.0, 0.6], [0.6, 0.5]]], dtype=torch.float64))


def test_karras_is_equation_5():
    levels = karras(5, 0.1, 10.0, rho=7)
    expected = [(10 ** (1 / 7) + i / 4 * (0.1 ** (1 / 7) - 10 ** (1 / 7))) ** 7 for i in range(5)] + [0.0]
    assert levels == pytest.approx(expected)
    assert karras(1, 0.1, 10.0) == pytest.approx([10.0, 0.0])


@pytest.mark.parametrize("steps, low, high", [(0, 0.1, 1), (5, 0, 1), (5, 2, 1), (5, -1, 1), (5, 0.1, float("inf"))])
def test_schedules_without_meaning_are_refused(steps, low, high):
    with pytest.raises(InputError, match="no schedule"):
        karras(steps, low, high)


def test_levels_that_rise_are_refused(correlated):
    x = torch.zeros(1, 2, dtype=torch.float64)
    for levels in ([1.0, 2.0], [1.0], [1.0, 1.0, 0.0], [1.0, -1.0]):
        with pytest.raises(InputError, match="must fall"):
            next(euler(x, levels, guidance.unconditional(), correlated.denoise))
    with pytest.raises(InputError, match="R must be"):
        next(euler(x, [1.0, 0.0], guidance.unconditional(), correlated.denoise, corrections=0))


@pytest.mark.parametrize("churn, corrections", [(0.0, 1), (20.0, 1), (20.0, 2)])
def test_prior_is_recovered(correlated, churn, corrections):
    """Mean and covariance of unconditional samples are the oracle's, with and without churn and corrections."""
    g = torch.Generator().manual_seed(0)
    x = 20 * torch.randn(5000, 2, generator=g, dtype=torch.float64)
    got = last(euler(x, karras(150, 1e-3, 20), guidance.unconditional(), correlated.denoise, churn, corrections,
                     generator=g)).x
    # standard errors 0.014 and 0.02; the rest is Euler's error at 150 steps, up to 0.09 where R = 2 (it halves at 300)
    assert (got.mean(0) - correlated.means[0]).abs().max() < 0.06
    assert (got.T.cov() - correlated.covariances[0]).abs().max() < 0.15


def test_eulers_error_halves_with_the_steps(correlated):
    """First order: against a run with very many steps, from the same start."""
    x = 20 * torch.randn(100, 2, dtype=torch.float64)
    ends = {n: last(euler(x, karras(n, 1e-3, 20), guidance.unconditional(), correlated.denoise)).x
            for n in (50, 100, 1600)}
    coarse, fine = ((ends[n] - ends[1600]).abs().mean().item() for n in (50, 100))
    assert 1.7 < coarse / fine < 2.5


def test_every_state_is_yielded_with_its_estimate(correlated):
    x = torch.randn(3, 2, dtype=torch.float64)
    states = list(euler(x, [1.0, 0.5, 0.0], guidance.unconditional(), correlated.denoise))
    assert [s.sigma for s in states] == [0.5, 0.0]
    assert torch.allclose(states[0].x0, correlated.denoise(x, torch.ones(3, dtype=torch.float64)))
    assert torch.allclose(states[-1].x, states[-1].x0)  # at zero noise the state is the estimate


def test_the_mixture_never_leaves_the_state(correlated):
    x = project(torch.randn(3, 2, dtype=torch.float64), Known.the_mixture(torch.zeros(3, 2))) + 0.5
    states = euler(x, karras(10, 0.01, 1.0), guidance.mixture_known(), correlated.denoise, churn=5.0,
                   known=Known.the_mixture(x))
    assert all(torch.allclose(s.x.sum(1), torch.ones(3, dtype=torch.float64)) for s in states)


def test_same_generator_same_states(correlated):
    runs = [last(euler(torch.ones(2, 2, dtype=torch.float64), karras(5, 0.1, 1.0), guidance.unconditional(),
                       correlated.denoise, churn=2.0, generator=torch.Generator().manual_seed(seed))).x
            for seed in (3, 3, 4)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_nan_from_the_denoiser_stops_and_names_the_level():
    def broken(x, sigma):
        return x * (torch.nan if sigma[0] < 0.6 else 1.0)

    with pytest.raises(FloatingPointError, match=r"sigma = 0\.5"):
        last(euler(torch.zeros(1, 2), [1.0, 0.5, 0.0], guidance.unconditional(), broken))
