"""Each step against its formula; how they converge is in test_sampling and the study of convergence."""

import math

import pytest
import torch

from msdm_lite.diffusion.samplers import SAMPLERS, dpm_solver, euler, heun, sampler
from msdm_lite.errors import InputError

X = torch.tensor([[2.0, -1.0]]).double()


def slope(x, sigma):
    """A derivative that depends on both."""
    return 0.3 * x + sigma


def test_euler():
    x, x0 = euler(X, 2.0, 0.5, slope, {})
    assert torch.allclose(x, X - 1.5 * slope(X, 2.0)) and torch.allclose(x0, X - 2.0 * slope(X, 2.0))


def test_heun_takes_the_mean_of_both_ends():
    ahead = X - 1.5 * slope(X, 2.0)
    x, x0 = heun(X, 2.0, 0.5, slope, {})
    assert torch.allclose(x, X - 1.5 * (slope(X, 2.0) + slope(ahead, 0.5)) / 2)
    assert torch.allclose(x0, ahead - 0.5 * slope(ahead, 0.5))


@pytest.mark.parametrize("step", [euler, heun, dpm_solver])
def test_at_zero_the_state_is_the_estimate(step):
    x, x0 = step(X, 2.0, 0.0, slope, {})
    assert torch.allclose(x, X - 2.0 * slope(X, 2.0)) and torch.allclose(x, x0)


def test_dpm_solver_extrapolates_from_the_estimate_before():
    """Second order: with h = ln(2 / 1) and h' = ln(1 / 0.25), D = D1 + h' / (2 h) (D1 - D0)."""
    memory: dict = {}
    x, first = dpm_solver(X, 2.0, 1.0, slope, memory)
    assert torch.allclose(x, first + 0.5 * (X - first))
    second = x - 1.0 * slope(x, 1.0)
    after, x0 = dpm_solver(x, 1.0, 0.25, slope, memory)
    ahead = second + math.log(4) / (2 * math.log(2)) * (second - first)
    assert torch.allclose(x0, second) and torch.allclose(after, ahead + 0.25 * (x - ahead))


def test_nothing_is_changed_in_place():
    for step in SAMPLERS.values():
        before = X.clone()
        step(X, 2.0, 0.5, slope, {})
        assert torch.equal(X, before)


def test_steps_say_what_they_cost(monkeypatch):
    assert {name: (step.evaluations, step.multistep) for name, step in SAMPLERS.items()} == {
        "euler": (1, False), "heun": (2, False), "dpm-solver": (1, True)}
    monkeypatch.delitem(SAMPLERS, "euler")
    with pytest.raises(InputError, match="already"):
        sampler("heun")(euler)
    assert sampler("mine", evaluations=3)(lambda *_: None).evaluations == 3
    monkeypatch.delitem(SAMPLERS, "mine")
