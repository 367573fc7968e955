"""The guidances by name, each with its settings, as methods use them; their mathematics is in `guidance`.

Settings are a frozen dataclass. `for_task(task, x, generator)` returns the guidance of a task, `(x, sigma, denoise) ->
d`; x is the first state. A guidance of one's own either has that method, or is a dataclass with a field `task`, which
`TaskGuidance` provides, and `__call__(x, sigma, denoise)`. Chapter: `book/11-beyond-the-paper.ipynb`.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from msdm_lite.diffusion import guidance
from msdm_lite.diffusion.conditioning import Conditioning, Denoise, Task
from msdm_lite.diffusion.guidance import Guidance
from msdm_lite.diffusion.noise import Noise, white
from msdm_lite.diffusion.projdiff import projdiff
from msdm_lite.errors import InputError
from msdm_lite.utils.registry import Registry

#: Classes of guidances by name; each is made without arguments, so its settings have defaults.
GUIDANCES: Registry[type] = Registry("guidance")


@dataclass(frozen=True)
class GuidanceSettings(ABC):
    """Base class of settings from which the guidance of a task is made."""

    calls = 1  # of the denoiser in one call of the guidance
    inside = False  # the state contains what is known, and noise lies in the rest: for models with conditioning

    @abstractmethod
    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        """The guidance of one task, whose first state is x."""


@dataclass(frozen=True)
class TaskGuidance(GuidanceSettings):
    """Base class of guidances that are called themselves: `self.task` has the mixture and what else is known."""

    task: Task | None = field(default=None, kw_only=True, repr=False)

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        return replace(self, task=task)

    @abstractmethod
    def __call__(self, x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        """The ODE derivative d, like x (B, S, ...), at noise levels sigma (B,)."""


def needed(value: Tensor | None, what: str) -> Tensor:
    """A part of a task that a guidance needs: `remainder`, what the stems that are not given sum to, or `variance`.

    Raises:
        InputError: it is not known; `what` names the method and the part.
    """
    if value is None:
        raise InputError(f"the method {what}")
    return value


@GUIDANCES.register("prior")
@dataclass(frozen=True)
class Prior(GuidanceSettings):
    """No guidance: generation, or imputation by replacement."""

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        if task.mixture is not None:
            raise InputError("a mixture needs a method of separation")
        return guidance.unconditional()


@GUIDANCES.register("dirac")
@dataclass(frozen=True)
class Dirac(GuidanceSettings):
    """See `guidance.dirac`. constrained_stem: the first one that is not given if None; several take turns."""

    constrained_stem: int | tuple[int, ...] | None = None

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        k = task.others[0] if self.constrained_stem is None else self.constrained_stem
        return guidance.dirac(needed(task.remainder, "dirac needs a mixture"), k, task.among)


@GUIDANCES.register("gaussian")
@dataclass(frozen=True)
class Gaussian(GuidanceSettings):
    """See `guidance.gaussian`. c: gamma / sigma."""

    c: float = 0.75 * 2**0.5

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        return guidance.gaussian(needed(task.remainder, "gaussian needs a mixture"), self.c, task.among)


@GUIDANCES.register("wiener")
@dataclass(frozen=True)
class Wiener(GuidanceSettings):
    """See `guidance.wiener`."""

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        mixture = needed(task.remainder, "wiener needs a mixture")
        return guidance.wiener(mixture, needed(task.variance, "wiener needs the variance of the stems"), task.among)


@GUIDANCES.register("pigdm")
@dataclass(frozen=True)
class PiGDM(GuidanceSettings):
    """See `guidance.pigdm`. gradient_clip: bound of the gradient's norm."""

    gradient_clip: float = float("inf")

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        mixture = needed(task.remainder, "pigdm needs a mixture")
        variance = needed(task.variance, "pigdm needs the variance of the stems")
        return guidance.pigdm(mixture, variance, task.among, self.gradient_clip)


@GUIDANCES.register("guided")
@dataclass(frozen=True)
class ClassifierFree(GuidanceSettings):
    """See `guidance.classifier_free`: for models that have the mixture as an input."""

    weight: float = 1.0

    @property
    def calls(self) -> int:  # type: ignore[override]
        return 1 if self.weight == 1 else 2

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        needed(task.remainder, "guided needs a mixture")
        mixture = task.mixture
        assert mixture is not None

        def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
            conditional = partial(denoise, conditioning=Conditioning.none(x, mixture=mixture))
            return guidance.classifier_free(conditional, self.weight)(x, sigma, denoise)

        return derivative


@GUIDANCES.register("conditioned")
@dataclass(frozen=True)
class Conditioned(GuidanceSettings):
    """See `guidance.conditioned`, and `conditioned_with_weight` for a weight other than 1."""

    weight: float = 1.0
    inside = True

    @property
    def calls(self) -> int:  # type: ignore[override]
        return 1 if self.weight == 1 else 2

    def for_task(self, task: Task, x: Tensor, generator: Noise) -> Guidance:
        conditioning = None
        if task.mixture is not None or task.stems:
            conditioning = Conditioning.on_stems(x, task.stems, task.mixture is not None)
        if self.weight == 1:
            return guidance.conditioned(conditioning)
        if not task.stems or task.mixture is not None or conditioning is None:
            raise InputError("a weight is for given stems without a mixture")
        return guidance.conditioned_with_weight(conditioning, white(x, generator), self.weight)


@GUIDANCES.register("projdiff")
@dataclass(frozen=True)
class ProjDiff:
    """See `projdiff`, which is an algorithm of its own. inner_steps: evaluations at each noise level."""

    inner_steps: int = 5

    @property
    def calls(self) -> int:
        return self.inner_steps

    def states(self, task: Task, sigmas: list[float], denoise: Denoise, generator: Noise
               ) -> Generator[Any, None, Tensor]:
        """The estimates after each noise level."""
        if task.mixture is None or task.stems or task.span is not None:
            raise InputError("ProjDiff separates a mixture without known stems, and does nothing else")
        return projdiff(task.mixture, task.shape[1], sigmas, denoise, self.inner_steps, generator=generator)


#: A guidance, the settings of one, or an algorithm of its own, as a method has it.
AnyGuidance = Guidance | GuidanceSettings | ProjDiff
