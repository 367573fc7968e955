"""Noise schedules as data, and the sampler as a generator. Chapter: `book/07-separation.ipynb`.

The sampler yields every state, so that a caller can draw it, animate it, count it or stop. It knows a guidance and a
denoiser, and nothing of audio. Source: Karras et al. (EDM, arXiv 2206.00364), algorithm 2, and the correction steps of
Mariani et al. (arXiv 2302.02257).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.guidance import Denoise, Guidance, along
from msdm_lite.known import Known, project


@dataclass(frozen=True)
class State:
    """One step of sampling: the state x at level sigma, and the clean stems x0 that the guided drift pointed at."""

    x: Tensor
    sigma: float
    x0: Tensor


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """`steps` noise levels from high to low, dense at the low end, and a final 0 (EDM, equation 5).

    Raises:
        InputError: levels or steps that make no schedule.
    """
    if steps < 1 or not 0 < low <= high < float("inf"):
        raise InputError(f"{steps} levels from {high} down to {low} make no schedule")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return [*levels.tolist(), 0.0]


def euler(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float = 0.0,
          corrections: int = 1, known: Known | None = None,
          generator: torch.Generator | None = None) -> Iterator[State]:
    """Euler steps with churn and correction steps, as the paper samples; yields the state after each noise level.

    Args:
        x: the first state, (B, S, ...), at level sigmas[0].
        sigmas: falling noise levels; the last is usually 0.
        churn: S_churn of EDM: fresh noise added in every step, in all about this share of it; 0 is an ODE.
        corrections: R, how often each level is sampled again (1: once).
        known: the shape of the noise that is added.

    Raises:
        InputError: levels that do not fall, or R < 1.
        FloatingPointError: the denoiser returned something not finite; the message names the level.
    """
    if corrections < 1 or len(sigmas) < 2 or any(a <= b for a, b in pairwise(sigmas)) or sigmas[-1] < 0:
        raise InputError("noise levels must fall, from the first to the last, and R must be at least 1")

    def fresh() -> Tensor:
        n = torch.randn(x.shape, generator=generator, device=generator.device if generator else x.device, dtype=x.dtype)
        return project(n.to(x.device), known)

    gamma = min(churn / (len(sigmas) - 1), 2**0.5 - 1)
    for sigma, following in pairwise(sigmas):
        for again in reversed(range(corrections)):
            raised = sigma * (1 + gamma)
            if gamma > 0:
                x = x + fresh() * (raised**2 - sigma**2) ** 0.5
            level = torch.full((len(x),), raised, dtype=x.dtype, device=x.device)
            d = guidance(x, level, denoise)
            if not torch.isfinite(d).all():
                raise FloatingPointError(f"the denoiser returned values that are not finite at sigma = {raised:.4g}")
            x0 = x - along(level, x) * d
            x = x + d * (following - raised)
            if again:
                x = x + fresh() * (sigma**2 - following**2) ** 0.5
        yield State(x, following, x0)


def last(states: Iterator[State]) -> State:
    """Run a sampler to its end."""
    kept = deque(states, maxlen=1)
    if not kept:
        raise InputError("the sampler made no step")
    return kept[0]
