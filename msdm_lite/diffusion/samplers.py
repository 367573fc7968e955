"""Samplers, each as one step from a noise level to the next. Chapter: `book/03-noise-and-sampling.ipynb`.

`step(x, sigma, following, derivative, memory)` returns the state at the level `following` and the estimate of the clean
stems, both like x. `derivative(x, sigma)` is the guided ODE derivative d. `memory` is a dictionary that is empty before
the first step of a run: multistep methods keep what they need of past steps there. Noise, constraints and the loop over
the levels are in `msdm_lite.diffusion.sampling`.

Sources: Karras et al. (EDM, arXiv 2206.00364), algorithm 1; Lu et al. (DPM-Solver++, arXiv 2211.01095), algorithm 2.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from msdm_lite.utils.registry import Registry

#: `derivative(x, sigma)` returns the guided ODE derivative d of x (B, S, ...) at the noise level sigma, a number.
Derivative = Callable[[Tensor, float], Tensor]
#: What a multistep method keeps between the steps of one run; empty before the first.
Memory = dict[str, Any]
#: `step(x, sigma, following, derivative, memory)` returns the state (B, S, ...) at the noise level `following`, and the
#: estimate of the clean stems, both like x.
Step = Callable[[Tensor, float, float, Derivative, Memory], tuple[Tensor, Tensor]]
#: Steps by name; `sampler` is its decorator.
SAMPLERS: Registry[Step] = Registry("sampler")


def sampler(name: str, evaluations: int = 1, multistep: bool = False) -> Callable[[Step], Step]:
    """Decorator that registers a step.

    Args:
        evaluations: calls of the derivative in one step.
        multistep: it uses past states, which added noise would invalidate: it takes no churn and no corrector steps.
    """
    def register(step: Step) -> Step:
        vars(step).update(evaluations=evaluations, multistep=multistep)
        return SAMPLERS.register(name)(step)

    return register


@sampler("euler")
def euler(x: Tensor, sigma: float, following: float, derivative: Derivative, memory: Memory) -> tuple[Tensor, Tensor]:
    """Euler's method: first order, one evaluation a step."""
    d = derivative(x, sigma)
    x = torch.add(x, d, alpha=following - sigma)
    return x, torch.add(x, d, alpha=-following)


@sampler("heun", evaluations=2)
def heun(x: Tensor, sigma: float, following: float, derivative: Derivative, memory: Memory) -> tuple[Tensor, Tensor]:
    """Heun's method: the mean of the derivatives at both ends; second order, two evaluations a step."""
    d = derivative(x, sigma)
    ahead = torch.add(x, d, alpha=following - sigma)
    if following == 0:
        return ahead, ahead
    half = torch.add(x, d, alpha=(following - sigma) / 2)
    del x, d  # the state of a long song is large
    d = derivative(ahead, following)
    return torch.add(half, d, alpha=(following - sigma) / 2), torch.add(ahead, d, alpha=-following)


@sampler("dpm-solver", multistep=True)
def dpm_solver(x: Tensor, sigma: float, following: float, derivative: Derivative, memory: Memory
               ) -> tuple[Tensor, Tensor]:
    """DPM-Solver++(2M): second order with one evaluation a step, as it uses the last estimate too. For few steps."""
    x0 = torch.add(x, derivative(x, sigma), alpha=-sigma)
    if following == 0:
        return x0, x0
    step = math.log(sigma / following)
    ahead = torch.lerp(memory["x0"], x0, 1 + step / (2 * memory["step"])) if memory else x0
    memory.update(x0=x0, step=step)
    return torch.lerp(ahead, x, following / sigma), x0  # exact for what is known

