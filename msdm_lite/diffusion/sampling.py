"""Noise schedules as data, and the samplers as generators. Chapter: `book/03-noise-and-sampling.ipynb`.

A sampler yields every state, so that a caller can plot it, count it or stop, and returns the last x. It calls a
guidance and a denoiser, and does not depend on audio. Sources: Karras et al. (EDM, arXiv 2206.00364), algorithm 2, and
the corrector steps of Mariani et al. (arXiv 2302.02257); Lu et al. (DPM-Solver++, arXiv 2211.01095).
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
    """The state x (B, S, ...) at noise level sigma, and the estimate of the clean stems, or a function returning it."""

    x: Tensor
    sigma: float
    estimate: Tensor | Callable[[], Tensor]

    @property
    def x0(self) -> Tensor:
        """The estimate of the clean stems, x - sigma d; computed on access, since that of a song takes a while."""
        return self.estimate() if callable(self.estimate) else self.estimate


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` decreasing noise levels, dense at the low end, and a final 0 (EDM, equation 5).

    Raises:
        InputError: no steps, rho not above 0, or not 0 < sigma_min <= sigma_max.
    """
    if rho <= 0:
        raise InputError(f"the exponent rho must be above 0, not {rho}")
    ramp = _ramp(steps, sigma_min, sigma_max)
    levels = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return [*levels.tolist(), 0.0]


def exponential(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` noise levels with a constant ratio below 1, and a final 0.

    Raises as `karras`.
    """
    ramp = _ramp(steps, sigma_min, sigma_max)
    levels = torch.exp(math.log(sigma_max) + ramp * (math.log(sigma_min) - math.log(sigma_max)))
    return [*levels.tolist(), 0.0]


def linear(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` decreasing noise levels at equal distances, and a final 0.

    Raises as `karras`.
    """
    return [*(sigma_max + _ramp(steps, sigma_min, sigma_max) * (sigma_min - sigma_max)).tolist(), 0.0]


SCHEDULES = {"karras": karras, "exponential": exponential, "linear": linear}


def _ramp(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """0 to 1 in that many steps, (steps,), after a check of the schedule. Raises InputError as `karras`."""
    if steps < 1 or not 0 < sigma_min <= sigma_max < float("inf") or (steps > 1 and sigma_min == sigma_max):
        raise InputError(f"{steps} noise levels from {sigma_max} down to {sigma_min} make no schedule")
    return torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)


def euler(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float = 0.0,
          corrections: int = 1, conditioning: Conditioning | None = None, constraint: Replacement | None = None,
          generator: Noise = None) -> Generator[State, None, Tensor]:
    """Euler steps with churn and corrector steps, the paper's sampler; yields the state after each noise level.

    Args:
        x: the first state, (B, S, ...), at level sigmas[0].
        sigmas: decreasing noise levels; the last is usually 0.
        churn: S_churn of EDM (stochastic sampling): how much noise is added in all steps together; 0 is the ODE.
        corrections: R, the number of times that each noise level is sampled (1: no corrector steps).
        conditioning: what is known; added noise lies in the subspace of what is unknown.
        constraint: imposed on the state before every evaluation.

    Raises:
        InputError: levels that do not decrease, churn below 0, or R < 1.
        FloatingPointError: the denoiser returned values that are not finite; the message has the noise level.
    """
    check_levels(sigmas, corrections, churn)
    return _stochastic(1, x, sigmas, guidance, denoise, churn, corrections, conditioning, constraint, generator)


def heun(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float = 0.0,
         corrections: int = 1, conditioning: Conditioning | None = None, constraint: Replacement | None = None,
         generator: Noise = None) -> Generator[State, None, Tensor]:
    """As `euler`, with the mean of the derivatives at both ends of each step: second order, two evaluations a step."""
    check_levels(sigmas, corrections, churn)
    return _stochastic(2, x, sigmas, guidance, denoise, churn, corrections, conditioning, constraint, generator)


def _stochastic(order: int, x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, churn: float,
                corrections: int, conditioning: Conditioning | None, constraint: Replacement | None,
                generator: Noise) -> Generator[State, None, Tensor]:
    gamma = min(churn / (len(sigmas) - 1), 2**0.5 - 1)
    for sigma, following in pairwise(sigmas):
        # The constraint's noise is the same for all corrector steps
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
    """DPM-Solver++(2M): second order with one evaluation a step, as it uses the last estimate too. For few steps.

    Arguments and errors as `euler`, and InputError for any churn or R > 1: it solves the ODE, and is a multistep
    method, which corrector steps would interrupt.
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
            x = torch.lerp(ahead, x, following / sigma)  # exact for what is known
            del ahead
        yield State(x, following, x0)
    return x


SAMPLERS = {"euler": euler, "heun": heun, "dpm-solver": dpm_solver}


def check_levels(sigmas: list[float], corrections: int = 1, churn: float = 0.0, ode: bool = False) -> None:
    """Check the noise levels and settings of a sampler before anything is computed; `ode`: of one without noise.

    Raises:
        InputError: levels that do not decrease, R < 1, or churn below 0; with `ode`, any churn or R > 1.
    """
    if len(sigmas) < 2 or not all(a > b for a, b in pairwise(sigmas)) or not 0 <= sigmas[-1] < sigmas[0] < float("inf"):
        raise InputError("noise levels must decrease from the first to the last, which is 0 or more")
    if corrections < 1:
        raise InputError(f"R must be at least 1, not {corrections}")
    if not 0 <= churn < float("inf"):
        raise InputError(f"churn must be 0 or more, not {churn}")
    if ode and (churn > 0 or corrections > 1):
        raise InputError("DPM-Solver++ solves the ODE: it takes no churn and no corrections; euler does")


def _churn_noise(x: Tensor, conditioning: Conditioning | None, generator: Noise) -> Tensor:
    """White noise like x, projected on what is unknown."""
    return project(white(x, generator), conditioning)


def _derivative(guidance: Guidance, x: Tensor, sigma: float, denoise: Denoise) -> Tensor:
    """The guided ODE derivative d of the batch x at one noise level, like x.

    Raises:
        FloatingPointError: it is not finite.
    """
    d = guidance(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device), denoise)
    if not all(bound.isfinite() for bound in d.aminmax()):  # as isfinite(), without its copies
        raise FloatingPointError(f"the denoiser returned values that are not finite at sigma = {sigma:.4g}")
    return d


def final_state(states: Iterator[State]) -> State:
    """The last state of a sampler.

    Raises:
        InputError: the sampler yielded no state.
    """
    kept = deque(states, maxlen=1)
    if not kept:
        raise InputError("the sampler made no step")
    return kept[0]


def final_x(states: Generator[State, None, Tensor]) -> Tensor:
    """The last x (B, S, ...) of a sampler. No earlier state is kept, since that of a long song is large.

    Raises:
        InputError: the sampler returned no state.
    """
    while True:
        try:
            next(states)
        except StopIteration as stop:
            if stop.value is None:
                raise InputError("the sampler made no step") from None
            return stop.value
