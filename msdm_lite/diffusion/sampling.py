"""Noise schedules as data, and the samplers as generators. Chapter: `book/03-noise-and-sampling.ipynb`.

A sampler yields every state, so that a caller can draw it, animate it, count it or stop, and returns the last x. It
knows a guidance and a denoiser, and nothing of audio. Sources: Karras et al. (EDM, arXiv 2206.00364), algorithm 2, and
the correction steps of Mariani et al. (arXiv 2302.02257); Lu et al. (DPM-Solver++, arXiv 2211.01095).
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from msdm_lite.diffusion.guidance import Denoise, Guidance
from msdm_lite.diffusion.imputation import Replacement
from msdm_lite.diffusion.noise import Conditioning, Noise, project, white
from msdm_lite.errors import InputError


@dataclass(frozen=True)
class State:
    """One step of sampling: the state x at level sigma, and the estimate of the clean stems, or what computes it."""

    x: Tensor
    sigma: float
    estimate: Tensor | Callable[[], Tensor]

    @property
    def x0(self) -> Tensor:
        """The clean stems that the guided drift pointed at; computed when asked for, since a song's takes a while."""
        return self.estimate() if callable(self.estimate) else self.estimate


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` noise levels from high to low, dense at the low end, and a final 0 (EDM, equation 5).

    Raises:
        InputError: levels or steps that make no schedule.
    """
    if rho <= 0:
        raise InputError(f"the exponent rho must be above 0, not {rho}")
    ramp = _ramp(steps, sigma_min, sigma_max)
    levels = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return [*levels.tolist(), 0.0]


def exponential(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` noise levels from high to low, each the same share of the one before, and a final 0.

    Raises as `karras`.
    """
    ramp = _ramp(steps, sigma_min, sigma_max)
    levels = torch.exp(math.log(sigma_max) + ramp * (math.log(sigma_min) - math.log(sigma_max)))
    return [*levels.tolist(), 0.0]


def linear(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` noise levels from high to low, each the same distance below the one before, and a final 0.

    Raises as `karras`.
    """
    return [*(sigma_max + _ramp(steps, sigma_min, sigma_max) * (sigma_min - sigma_max)).tolist(), 0.0]


SCHEDULES = {"karras": karras, "exponential": exponential, "linear": linear}


def _ramp(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """0 to 1 in that many steps, once it is sure that they make a schedule."""
    if steps < 1 or not 0 < sigma_min <= sigma_max < float("inf") or (steps > 1 and sigma_min == sigma_max):
        raise InputError(f"{steps} levels from {sigma_max} down to {sigma_min} make no schedule")
    return torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)


def euler(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float = 0.0,
          corrections: int = 1, conditioning: Conditioning | None = None, constraint: Replacement | None = None,
          generator: Noise = None) -> Generator[State, None, Tensor]:
    """Euler steps with churn and correction steps, as the paper samples; yields the state after each noise level.

    Args:
        x: the first state, (B, S, ...), at level sigmas[0].
        sigmas: falling noise levels; the last is usually 0.
        churn: S_churn of EDM: fresh noise added in every step, in all about this share of it; 0 is an ODE.
        corrections: R, how often each level is sampled again (1: once).
        known: the shape of the noise that is added.
        hold: what is put back before every evaluation.

    Raises:
        InputError: levels that do not fall, churn below 0, or R < 1.
        FloatingPointError: the denoiser returned something not finite; the message names the level.
    """
    check_levels(sigmas, corrections, churn)
    return _stochastic(1, x, sigmas, guidance, denoise, churn, corrections, conditioning, constraint, generator)


def heun(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float = 0.0,
         corrections: int = 1, conditioning: Conditioning | None = None, constraint: Replacement | None = None,
         generator: Noise = None) -> Generator[State, None, Tensor]:
    """As `euler`, with a second evaluation at the end of each step, whose drift is averaged in: second order."""
    check_levels(sigmas, corrections, churn)
    return _stochastic(2, x, sigmas, guidance, denoise, churn, corrections, conditioning, constraint, generator)


def _stochastic(order: int, x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float,
             corrections: int, conditioning: Conditioning | None, constraint: Replacement | None,
             generator: Noise) -> Generator[State, None, Tensor]:
    gamma = min(churn / (len(sigmas) - 1), 2**0.5 - 1)
    for sigma, following in pairwise(sigmas):
        # the same for all corrections
        n = constraint.among(_churn_noise(x, conditioning, generator)) if constraint else None
        for again in reversed(range(corrections)):
            if constraint:
                x = constraint.impose(x, sigma, n)
            if not again:
                n = None
            raised = sigma * (1 + gamma)
            if gamma > 0:
                x = torch.add(x, _churn_noise(x, conditioning, generator), alpha=(raised**2 - sigma**2) ** 0.5)
            d = _derivative(guidance, x, raised, denoise)
            x0: Tensor | Callable[[], Tensor] | None
            # The state of a long song is large: torch.add makes no temporary copy, and nothing outlives its use
            ahead = torch.add(x, d, alpha=following - raised)
            if order == 2 and following > 0:
                half = torch.add(x, d, alpha=(following - raised) / 2)
                del x, d
                d = _derivative(guidance, ahead, following, denoise)
                x0 = None if again else torch.add(ahead, d, alpha=-following)
                x = torch.add(half, d, alpha=(following - raised) / 2)
                del half
            else:
                x = ahead
                x0 = None if again else partial(torch.add, x, d, alpha=-following) if following > 0 else x
            del ahead, d
            if again:
                x = torch.add(x, _churn_noise(x, conditioning, generator), alpha=(sigma**2 - following**2) ** 0.5)
        if constraint and following == 0:
            x = constraint.impose(x)
        assert x0 is not None  # after the last correction
        state = State(x, following, x0)
        del x0
        yield state
        del state
    return x


def dpm_solver(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float = 0.0,
               corrections: int = 1, conditioning: Conditioning | None = None, constraint: Replacement | None = None,
               generator: Noise = None) -> Generator[State, None, Tensor]:
    """DPM-Solver++(2M): second order with one evaluation a step, since it remembers the last estimate. For few steps.

    Arguments and errors as `euler`. It solves the ODE: there is no churn, and corrections would break its memory.
    """
    check_levels(sigmas, corrections, churn, ode=True)
    before, last_step = None, 0.0
    for sigma, following in pairwise(sigmas):
        if constraint:
            x = constraint.impose(x, sigma, constraint.among(_churn_noise(x, conditioning, generator)))
        x0 = torch.add(x, _derivative(guidance, x, sigma, denoise), alpha=-sigma)
        if following == 0:
            x = constraint.impose(x0) if constraint else x0
        else:
            step = math.log(sigma / following)
            ahead = x0 if before is None else torch.lerp(before, x0, 1 + step / (2 * last_step))
            before, last_step = x0, step
            x = torch.lerp(ahead, x, following / sigma)  # what is known stays to the last bit
            del ahead
        yield State(x, following, x0)
    return x


SAMPLERS = {"euler": euler, "heun": heun, "dpm-solver": dpm_solver}


def check_levels(sigmas: list[float], corrections: int = 1, churn: float = 0.0, ode: bool = False) -> None:
    """Refuse, before anything is computed, what no sampler can follow, or none that solves the ODE alone.

    Raises:
        InputError: levels that do not fall, R < 1, or churn below 0; of the ODE, any churn or R > 1.
    """
    if len(sigmas) < 2 or not all(a > b for a, b in pairwise(sigmas)) or not 0 <= sigmas[-1] < sigmas[0] < float("inf"):
        raise InputError("noise levels must fall, from the first to the last, which is 0 or more")
    if corrections < 1:
        raise InputError(f"R must be at least 1, not {corrections}")
    if not 0 <= churn < float("inf"):
        raise InputError(f"churn must be 0 or more, not {churn}")
    if ode and (churn > 0 or corrections > 1):
        raise InputError("DPM-Solver++ solves the ODE: it takes no churn and no corrections; euler does")


def _churn_noise(x: Tensor, conditioning: Conditioning | None, generator: Noise) -> Tensor:
    """White noise like x, in the shape of what is unknown."""
    return project(white(x, generator), conditioning)


def _derivative(guidance: Guidance, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
    """The guided drift at one level for the whole batch, finite."""
    d = guidance(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device), denoise)
    if not all(bound.isfinite() for bound in d.aminmax()):  # as isfinite(), without its copies
        raise FloatingPointError(f"the denoiser returned values that are not finite at sigma = {sigma:.4g}")
    return d


def final_state(states: Iterator[State]) -> State:
    """Run a sampler to its end: its last state.

    Raises:
        InputError: it made no step.
    """
    kept = deque(states, maxlen=1)
    if not kept:
        raise InputError("the sampler made no step")
    return kept[0]


def final_x(states: Generator[State, None, Tensor]) -> Tensor:
    """Run a sampler to its end, (B, S, ...), and hold none of the states on the way: songs are long.

    Raises:
        InputError: what was given is no sampler: it made no step, or returned no state.
    """
    while True:
        try:
            next(states)
        except StopIteration as stop:
            if stop.value is None:
                raise InputError("the sampler made no step") from None
            return stop.value
