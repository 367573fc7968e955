"""The loop of all samplers: noise levels, churn, corrector steps, constraints, and the states that it yields.

`sample` calls a guidance, a denoiser and a step (`msdm_lite.diffusion.samplers`), and does not depend on audio. It is a
generator of states, so that a caller can plot them, count them or stop, and returns the last x. Sources: Karras et al.
(EDM, arXiv 2206.00364), algorithm 2, and the corrector steps of Mariani et al. (arXiv 2302.02257). Chapter:
`book/03-noise-and-sampling.ipynb`.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from msdm_lite.diffusion.conditioning import Conditioning, Denoise
from msdm_lite.diffusion.guidance import Guidance
from msdm_lite.diffusion.imputation import Replacement
from msdm_lite.diffusion.noise import Noise, project, white
from msdm_lite.diffusion.samplers import SAMPLERS, Memory, Step, euler
from msdm_lite.diffusion.schedules import check_levels
from msdm_lite.errors import DivergenceError, InputError

#: How many times as large (RMS) as its first noise and what is known a state may become. With the shipped models and
#: the defaults of every method it stays below 3; where the steps are too few for a method, it soon exceeds 100.
LIMIT = 100.0


@dataclass(frozen=True)
class State:
    """The state x (B, S, ...) at noise level sigma, and the estimate x0 of the clean stems."""

    x: Tensor
    sigma: float
    x0: Tensor


#: Called with each state of a sampler; an exception in it ends the sampling.
Callback = Callable[[State], object]


@dataclass(frozen=True)
class Sampler:
    """A step and the noise around it.

    Args:
        step: see `msdm_lite.diffusion.samplers`; or the name of a registered one.
        churn: S_churn of EDM (stochastic sampling): how much noise is added in all steps together; 0 is the ODE.
        corrections: R, the number of times that each noise level is sampled (1: no corrector steps).
        limit: how many times as large as its first noise and what is known a state may become before the sampling
            stops with an error; infinity lets it diverge.

    Raises:
        InputError: no such step, churn below 0, R < 1, or any of the two with a multistep method; a limit not above 0.
    """

    step: Step | str = euler
    churn: float = 0.0
    corrections: int = 1
    limit: float = LIMIT

    def __post_init__(self) -> None:
        if isinstance(self.step, str):
            object.__setattr__(self, "step", SAMPLERS.find(self.step))
        if self.corrections < 1:
            raise InputError(f"R must be at least 1, not {self.corrections}")
        if not 0 <= self.churn < float("inf"):
            raise InputError(f"churn must be 0 or more, not {self.churn}")
        if not self.limit > 0:
            raise InputError(f"the limit of a state's size must be above 0, not {self.limit}")
        if getattr(self.step, "multistep", False) and (self.churn > 0 or self.corrections > 1):
            raise InputError("DPM-Solver++ solves the ODE: it takes no churn and no corrections; euler does")

    def evaluations(self, steps: int) -> int:
        """Calls of the guidance for a schedule of so many noise levels above 0."""
        each = getattr(self.step, "evaluations", 1)
        return self.corrections * (each * (steps - 1) + 1)

    def remedies(self, levels: int) -> list[str]:
        """What may help where it diverges with so many noise levels above 0."""
        less = [f"churn below {self.churn:g}"] if self.churn > 0 else []
        less += [f"fewer corrections than {self.corrections}"] if self.corrections > 1 else []
        return [f"more than {levels} steps", *less]


def sample(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, sampler: Sampler | Step = euler,
           constraint: Conditioning | Replacement | None = None, generator: Noise = None,
           known: Sequence[Tensor] = ()) -> Generator[State, None, Tensor]:
    """Sample from the first noise level to the last; yields the state after each.

    Args:
        x: the first state, (B, S, ...), at level sigmas[0].
        sigmas: decreasing noise levels; the last is usually 0.
        guidance: `(x, sigma, denoise) -> d`; it may say what it ends on, see `guidance.Ending`.
        sampler: a `Sampler`, or a step without churn and corrector steps.
        constraint: a Conditioning whose known parts carry no noise: added noise lies in the subspace of what is
            unknown. Or a Replacement, imposed on the state before every step.
        known: clean values, (B, ...) each, such as the mixture: a state may be as large as they are.

    Raises:
        InputError: levels that do not decrease.
        FloatingPointError: the denoiser returned values that are not finite; the message has the noise level.
        DivergenceError: a state is larger than `limit` of the sampler allows; the message says what may help.
    """
    check_levels(sigmas)
    sampler = sampler if isinstance(sampler, Sampler) else Sampler(sampler)
    remedies = sampler.remedies(sum(sigma > 0 for sigma in sigmas)) + list(getattr(guidance, "remedies", ()))
    states = _states(x, sigmas, guidance, denoise, sampler, constraint, generator)
    return watched(states, sigmas[0], (x, *known), sampler.limit, remedies)


def watched(states: Generator[State, None, Tensor], sigma: float, known: Sequence[Tensor], limit: float = LIMIT,
            remedies: Sequence[str] = ()) -> Generator[State, None, Tensor]:
    """The states of a sampler, as long as each item's RMS is at most `limit` times sigma or that of something known.

    Args:
        sigma: the first noise level.
        known: the first state, or clean values, (B, ...) each.

    Raises:
        DivergenceError: a larger state; the message says what may help.
    """
    allowed = limit * torch.stack([rms(values) for values in known]).amax(0).clamp(min=sigma)
    while True:
        try:
            state = next(states)
        except StopIteration as stop:
            last: Tensor = stop.value
            return last
        size = rms(state.x) if limit < float("inf") else allowed
        if not (size <= allowed).all():
            times = limit * (size / allowed).amax().item()
            raise DivergenceError(f"the sampler diverges: at sigma = {state.sigma:.3g} its state is {times:.3g} times "
                                  "as large as its first noise and what is known; what may help: "
                                  f"{', '.join([*remedies, 'another method'])}")
        yield state
        del state  # that of a long song is large


def rms(x: Tensor) -> Tensor:
    """Root mean square of each item of x (B, ...): (B,)."""
    values = x.shape[1:].numel()  # 1 of a point's mixture, (B,)
    norms: Tensor = torch.linalg.vector_norm(x.reshape(len(x), values), dim=1)
    return norms / math.sqrt(values)


def _states(x: Tensor, sigmas: list[float], guidance: Guidance, denoise: Denoise, sampler: Sampler,
            constraint: Conditioning | Replacement | None, generator: Noise) -> Generator[State, None, Tensor]:
    replacement = constraint if isinstance(constraint, Replacement) else None
    conditioning = constraint if isinstance(constraint, Conditioning) else None
    gamma = min(sampler.churn / (len(sigmas) - 1), 2**0.5 - 1)
    step, memory, end = sampler.step, Memory(), getattr(guidance, "end", None)
    assert callable(step)  # a name has been looked up

    def noise() -> Tensor:
        return project(white(x, generator), conditioning)

    def levels(x: Tensor, sigma: float) -> Tensor:
        return torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)

    def derivative(x: Tensor, sigma: float) -> Tensor:
        return _finite(guidance(x, levels(x, sigma), denoise), sigma)

    held: Tensor | None = None  # the memory of a multistep method is of one trajectory, so its noise stays the same
    for sigma, following in pairwise(sigmas):
        # The noise of replacement is the same for all corrector steps
        n = None
        if replacement:
            n = replacement.among(noise()) if held is None else held
            held = n if getattr(step, "multistep", False) else None
        for again in reversed(range(sampler.corrections)):
            if replacement:
                x = replacement.impose(x, sigma, n)
            if not again:
                n = None
            raised = sigma * (1 + gamma)
            if gamma > 0:
                x = torch.add(x, noise(), alpha=(raised**2 - sigma**2) ** 0.5)
            if following == 0 and end is not None and not again:
                x = x0 = _finite(end(x, levels(x, raised), denoise), raised)
            else:
                x, x0 = step(x, raised, following, derivative, memory)
            if again:
                x = torch.add(x, noise(), alpha=(sigma**2 - following**2) ** 0.5)
        if replacement and following == 0:
            x = replacement.impose(x)
        state = State(x, following, x0)
        del x0  # the state of a long song is large: nothing outlives its use
        yield state
        del state
    return x


def _finite(d: Tensor, sigma: float) -> Tensor:
    """The derivative d of a batch at one noise level.

    Raises:
        FloatingPointError: it is not finite.
    """
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


def final_x(states: Generator[State, None, Tensor], callback: Callback | None = None) -> Tensor:
    """The last x (B, S, ...) of a sampler. No earlier state is kept, since that of a long song is large.

    Args:
        callback: called with each state; an exception in it ends the sampling.

    Raises:
        InputError: the sampler returned no state.
    """
    while True:
        try:
            state = next(states)
        except StopIteration as stop:
            if stop.value is None:
                raise InputError("the sampler made no step") from None
            last: Tensor = stop.value
            return last
        if callback:
            callback(state)
        del state
