"""Guidances by name: their settings, what they need, and one of one's own against the exact posterior mean."""

from dataclasses import dataclass

import pytest
import torch

from msdm_lite.diffusion import guidance, methods, sampling
from msdm_lite.diffusion.conditioning import Task
from msdm_lite.diffusion.guidance import along
from msdm_lite.diffusion.guidances import GUIDANCES, Dirac, Gaussian, PiGDM, TaskGuidance, Wiener
from msdm_lite.diffusion.methods import OWN_GUIDANCE, Method
from msdm_lite.diffusion.oracle import gaussian
from msdm_lite.errors import InputError

VARIANCE = torch.tensor([1.0, 0.25, 0.5]).double()
Y = torch.tensor([1.1, 0.0]).double()
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SIGMA = torch.tensor([0.3, 0.7]).double()


@pytest.fixture
def oracle():
    return gaussian(torch.zeros(3).double(), torch.diag(VARIANCE))


@pytest.mark.parametrize("settings, expected", [
    (Gaussian(c=0.5), guidance.gaussian(Y, 0.5)), (Dirac(2), guidance.dirac(Y, 2)), (Dirac(), guidance.dirac(Y, 0)),
    (Wiener(), guidance.wiener(Y, VARIANCE)), (PiGDM(0.5), guidance.pigdm(Y, VARIANCE, None, 0.5))])
def test_settings_become_the_guidance_of_a_task(oracle, settings, expected):
    task = Task((2, 3), Y, variance=VARIANCE)
    got = settings.for_task(task, X, None)(X, SIGMA, oracle.denoise)
    assert torch.equal(got, expected(X, SIGMA, oracle.denoise))


@dataclass(frozen=True)
class Shares(TaskGuidance):
    """A researcher's guidance: the Wiener shares, written anew from the task alone."""

    strength: float = 1.0

    def __call__(self, x, sigma, denoise):
        s2, x0 = along(sigma, x) ** 2, denoise(x, sigma)
        left = self.task.variance * s2 / (self.task.variance + s2)
        missing = (self.task.mixture - x0.sum(1)).unsqueeze(1)
        return (x - x0 - self.strength * left / left.sum(1, keepdim=True) * missing) / along(sigma, x)


def test_a_guidance_of_ones_own_finds_the_posterior_mean(oracle):
    """For independent Gaussians these shares are exact: the mean of the ODE's end is E[x | y] = v y / sum v."""
    y = Y.repeat_interleave(2000)
    method = OWN_GUIDANCE.replace(guidance=Shares(), steps=60, sigma_max=20.0, churn=0.0)
    states = methods.sample(Task((len(y), 3), y, variance=VARIANCE), oracle.denoise, method,
                            torch.Generator().manual_seed(0))
    x = sampling.final_x(states)
    assert torch.allclose(x.sum(1), y)
    expected = VARIANCE * Y[:, None] / VARIANCE.sum()
    # Four standard errors of at most 0.016, and Euler's error
    assert (x.view(2, 2000, 3).mean(1) - expected).abs().max() < 0.08


def test_a_plain_function_is_a_guidance(oracle):
    def pull(x, sigma, denoise):
        return (x - denoise(x, sigma)) / along(sigma, x)

    prior = methods.GENERATIONS["ode"].replace(steps=5)
    ends = [sampling.final_x(methods.sample(Task((4, 3)), oracle.denoise, method, torch.Generator().manual_seed(1)))
            for method in (prior.replace(guidance=pull), prior)]
    assert torch.equal(*ends)


def test_settings_of_the_guidance_are_settings_of_the_method():
    method = Method("", Shares(), 10, 1.0).replace(strength=0.5, steps=7)
    assert method.guidance.strength == 0.5 and method.steps == 7
    assert method.replace(guidance="gaussian", c=2.0).guidance == Gaussian(2.0)
    with pytest.raises(InputError, match=r"no setting 'c' of this method; there are .*strength"):
        method.replace(c=1.0)
    with pytest.raises(InputError, match="no guidance 'magic'"):
        method.replace(guidance="magic")


def test_every_guidance_can_be_made_without_settings():
    assert all(hasattr(kind(), "for_task") or hasattr(kind(), "states") for kind in GUIDANCES.values())


def test_a_base_class_alone_is_no_guidance():
    with pytest.raises(TypeError, match="abstract"):
        TaskGuidance()
