"""Methods by name: a guidance, a sampler, a schedule, and their settings; and `sample`, which starts any of them.

A task (`msdm_lite.diffusion.conditioning`) is defined by what is known. A method depends on the stem axis alone, so it
works on MDCT spectrograms, on waveforms and on points of the analytic distributions. Chapter:
`book/07-separation.ipynb`.
"""

from collections.abc import Generator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from msdm_lite.diffusion import sampling
from msdm_lite.diffusion.conditioning import Conditioning, Denoise, Task
from msdm_lite.diffusion.guidances import (
    GUIDANCES,
    AnyGuidance,
    ClassifierFree,
    Conditioned,
    Dirac,
    Gaussian,
    PiGDM,
    Prior,
    ProjDiff,
    Wiener,
)
from msdm_lite.diffusion.imputation import Replacement
from msdm_lite.diffusion.noise import Noise, project, white
from msdm_lite.diffusion.samplers import SAMPLERS, Step
from msdm_lite.diffusion.sampling import Sampler, State
from msdm_lite.diffusion.schedules import SCHEDULES, check_levels
from msdm_lite.errors import InputError
from msdm_lite.utils.registry import Registry


@dataclass(frozen=True)
class Method:
    """A guidance, a sampler, and their settings. Source of `dirac`, `gaussian`, `replacement`, `paper`: 2302.02257.

    Args:
        guidance: settings of `msdm_lite.diffusion.guidances`, or any `guidance(x, sigma, denoise) -> d`.
        steps: noise levels of the schedule, without the final 0.
        sigma_max, sigma_min: the first noise level, and the last above 0.
        churn, corrections, limit, sampler: see `Sampler`; the sampler by name or as a step.
        schedule: by name.
    """

    summary: str
    guidance: AnyGuidance
    steps: int
    sigma_max: float
    sigma_min: float = 1e-3
    churn: float = 0.0
    corrections: int = 1
    sampler: str | Step = "euler"
    schedule: str = "karras"
    limit: float = sampling.LIMIT

    @property
    def sigmas(self) -> list[float]:
        """The noise levels, with the final 0."""
        return SCHEDULES.find(self.schedule)(self.steps, self.sigma_min, self.sigma_max)

    @property
    def nfe(self) -> int:
        """NFE, the number of calls of the denoiser; one call may run several networks."""
        calls = getattr(self.guidance, "calls", 1)
        if hasattr(self.guidance, "states"):
            return calls * self.steps
        return calls * Sampler(self.sampler, self.churn, self.corrections).evaluations(self.steps)

    @property
    def needs_conditioning(self) -> bool:
        """Whether it needs a model trained with conditioning."""
        return getattr(self.guidance, "inside", False)

    def check(self) -> None:
        """Check the settings before anything long is computed.

        Raises:
            InputError: noise levels that are not a schedule, or a setting that its sampler or guidance does not use.
        """
        check_levels(self.sigmas)
        Sampler(self.sampler, self.churn, self.corrections, self.limit)
        if hasattr(self.guidance, "states"):
            for name in ("churn", "corrections", "sampler"):
                if getattr(self, name) != getattr(Method, name):
                    raise InputError(f"the method's guidance does not use {name}")

    def replace(self, **settings: Any) -> "Method":
        """A copy with these settings, its own or its guidance's, where they are not None.

        Raises:
            InputError: there is no such setting, sampler or schedule.
        """
        new = {key: value for key, value in settings.items() if value is not None}
        guidance = new.pop("guidance", self.guidance)
        guidance = GUIDANCES.find(guidance)() if isinstance(guidance, str) else guidance
        own = {field.name for field in fields(self)} - {"summary"}
        inner = {field.name for field in fields(guidance)} - {"task"} if is_dataclass(guidance) else set()
        for key in new:
            if key not in own | inner:
                raise InputError(f"there is no setting {key!r} of this method; there are "
                                 f"{', '.join(sorted((own | inner) - {'guidance'}))}")
        for name, table in (("sampler", SAMPLERS), ("schedule", SCHEDULES)):
            if isinstance(new.get(name), str):
                table.find(new[name])
        if changed := {key: new.pop(key) for key in list(new) if key in inner}:
            guidance = replace(guidance, **changed)
        return replace(self, guidance=guidance, **new)


# Where a guidance is given and no method: levels and churn at which most guidances of separation are stable
OWN_GUIDANCE = Method("a guidance of one's own", Prior(), 50, 1.0, 1e-2, 10.0)
#: Methods of separation by name.
METHODS: Registry[Method] = Registry("method")
#: Methods of accompaniment by name.
IMPUTATIONS: Registry[Method] = Registry("method")
#: Methods of generation by name.
GENERATIONS: Registry[Method] = Registry("method")
# Unlike sound, sketches do not have a mean of zero. For six seconds (50 000 values) the norm of their mean is 110, and
# the standard deviation along the direction of overall level is 64. sigma_max has to exceed both, or the result is soft
SKETCHES: Registry[Method] = Registry("method")

METHODS.update({
    "mixture-constrained": Method("mixture-constrained (zero-sum) noise; one step gives the posterior mean",
                                  Conditioned(), 1, 10.0, 1e-2),
    "dirac": Method("the paper's Dirac likelihood: one stem is the mixture minus the others", Dirac(), 150, 1.0, 1e-4,
                    20.0, 2),
    "gaussian": Method("the paper's Gaussian likelihood: the sum of the stems is near the mixture", Gaussian(), 150,
                       1.0, 1e-4, 40.0, 2),
    "wiener": Method("the prior, its estimate corrected to sum to the mixture by Wiener shares", Wiener(), 30, 1.0,
                     1e-2, 30.0),
    "pigdm": Method("the prior, and a likelihood through the denoiser's Jacobian (PiGDM)", PiGDM(gradient_clip=1.0),
                    50, 1.0, 1e-2, 10.0),
    "projdiff": Method("optimization by the prior, projected on the mixture (ProjDiff)", ProjDiff(), 30, 1.0, 0.05),
    "guided": Method("a model conditioned on the mixture, with classifier-free guidance", ClassifierFree(), 20, 10.0,
                     1e-2, 5.0),
})
IMPUTATIONS.update({
    "stems-given": Method("noise on the other stems only; the given stems are clean", Conditioned(), 30, 10.0, 1e-2,
                          sampler="dpm-solver"),
    "replacement": Method("the noisy given stems replace the state's before every evaluation; the paper's", Prior(),
                          256, 20.0, 1e-4, 10.0),
})
GENERATIONS.update({
    "ode": Method("the prior without churn", Prior(), 30, 10.0, 1e-2, sampler="dpm-solver"),
    "paper": Method("the prior with the paper's churn and noise levels", Prior(), 150, 20.0, 1e-4, 20.0),
})
SKETCHES.update({
    "ode": Method("sketches: whole, or of the stems that are not given", Conditioned(), 30, 320.0, 1e-2,
                  sampler="dpm-solver"),
})


def by_name(name: str, table: Registry[Method] = METHODS, **settings: Any) -> Method:
    """The method of that name with these settings, where they are not None.

    Raises:
        InputError: no such method or setting.
    """
    return table.find(name).replace(**settings)


def sample(task: Task, denoise: Denoise, method: Method, generator: Noise = None,
           device: torch.device | None = None) -> Generator[State, None, Tensor]:
    """The sampler, a generator of states, for any task of a denoiser.

    Args:
        device: of the state, if nothing that is known has one.

    Raises:
        InputError: settings that do not fit together, or a method that does not support the task.
        FloatingPointError: the denoiser returned values that are not finite, or the state grows beyond `limit`.
    """
    method.check()
    known = [values for values in (task.mixture, task.given) if values is not None]
    x = white(task.like(device).expand(tuple(task.shape)), generator)
    if hasattr(method.guidance, "states"):  # an algorithm of its own
        states: Generator[State, None, Tensor] = method.guidance.states(
            task, method.sigmas, with_conditions(denoise, task), generator)
        return sampling.watched(states, method.sigma_max, known or [x], method.limit)
    x.mul_(method.sigma_max)  # in place: the state of a long song is large
    constraint: Conditioning | Replacement | None = None
    if method.needs_conditioning:
        x, constraint = _start_inside(task, x)
    elif task.given is not None:
        constraint = _replacement(task, x)
    guidance = method.guidance
    if hasattr(guidance, "for_task"):
        guidance = guidance.for_task(task, x, generator)
    return sampling.sample(x, method.sigmas, guidance, with_conditions(denoise, task),
                           Sampler(method.sampler, method.churn, method.corrections, method.limit), constraint,
                           generator, known)


def with_conditions(denoise: Denoise, task: Task) -> Denoise:
    """The denoiser with the further conditions of the task in every call."""
    conditions = task.conditions
    if not conditions:
        return denoise

    def conditioned(x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        known = Conditioning.none(x) if conditioning is None else conditioning
        return denoise(x, sigma, known.with_conditions(**conditions))

    return conditioned


def _start_inside(task: Task, x: Tensor) -> tuple[Tensor, Conditioning | None]:
    """The first state from noise x at the first level: what is known is clean, the noise lies in the rest."""
    if task.span is not None:
        raise InputError("a span of time is imputed by replacement: choose that method")
    if task.mixture is None and not task.stems:
        return x, None
    conditioning = Conditioning.on_stems(x, task.stems, task.mixture is not None)
    x = project(x, conditioning)
    if task.given is not None:
        x[:, list(task.stems)] = task.given[:, list(task.stems)]
    remainder = task.remainder
    if remainder is not None:  # the sum over all stems is the mixture
        for stem in task.others:
            x[:, stem].add_(remainder, alpha=1 / len(task.others))
    return x, conditioning


def _replacement(task: Task, x: Tensor) -> Replacement:
    """The constraint that imposes what is given; of a long song it holds only what is needed."""
    given, stems = task.given, list(task.stems)
    assert given is not None
    known = torch.zeros(x.shape[1], *[1] * (x.ndim - 2), dtype=torch.bool, device=x.device)
    known[stems] = True
    if task.span is None:
        return Replacement(given[:, stems], known[stems], stems)
    return Replacement(given, known | task.span.to(x.device))
