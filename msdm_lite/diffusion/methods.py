"""Methods by name, each with its settings, and `conditional`, which starts any of them on any task.

A task is defined by what is known: nothing (generation), the mixture (separation), some stems or a span of time
(imputation), or the mixture and some stems. `conditional` depends on the stem axis alone, so it works on MDCT
spectrograms, on waveforms and on points of the analytic distributions. Chapter: `book/07-separation.ipynb`.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from msdm_lite.diffusion import guidance, sampling
from msdm_lite.diffusion.guidance import Denoise
from msdm_lite.diffusion.imputation import Replacement
from msdm_lite.diffusion.noise import Conditioning, Noise, project, white
from msdm_lite.diffusion.projdiff import projdiff
from msdm_lite.errors import InputError


@dataclass(frozen=True)
class Method:
    """A guidance, a sampler, and their settings. Source of `dirac`, `gaussian`, `replacement`, `paper`: 2302.02257."""

    summary: str
    guidance: str  # "conditioned", "prior", "dirac", "gaussian", "wiener", "pigdm", "projdiff" or "guided"
    steps: int  # noise levels of the schedule, without the final 0
    sigma_max: float  # the first noise level
    sigma_min: float = 1e-3  # the last one above 0
    churn: float = 0.0
    corrections: int = 1  # R
    sampler: str = "euler"
    schedule: str = "karras"
    c: float = 0.75 * 2**0.5  # Gaussian: gamma / sigma
    constrained_stem: int | tuple[int, ...] | None = None  # Dirac: stem k; the first unknown one if None
    gradient_clip: float = float("inf")  # PiGDM: bound of the gradient's norm, see `guidance.pigdm`
    inner_steps: int = 5  # ProjDiff: evaluations at each noise level
    weight: float = 1.0  # of classifier-free guidance, by the mixture or by given stems

    @property
    def nfe(self) -> int:
        """NFE, the number of calls of the denoiser; one call may run several networks."""
        if self.guidance == "projdiff":
            return self.steps * self.inner_steps
        times = 2 if self.guidance in ("guided", "conditioned") and self.weight != 1 else 1
        steps = 2 * self.steps - 1 if self.sampler == "heun" else self.steps
        return times * self.corrections * steps

    @property
    def needs_conditioning(self) -> bool:
        """Whether it needs a model trained with conditioning."""
        return self.guidance == "conditioned"

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """Settings that its guidance does not use."""
        own = {"gaussian": ("c",), "dirac": ("constrained_stem",), "pigdm": ("gradient_clip",),
               "projdiff": ("inner_steps",), "guided": ("weight",), "conditioned": ("weight",)}.get(self.guidance, ())
        of_samplers = ("churn", "corrections", "sampler") if self.guidance == "projdiff" else ()
        return (*(name for name in ("c", "constrained_stem", "gradient_clip", "inner_steps", "weight")
                  if name not in own), *of_samplers)

    def check(self) -> None:
        """Check the settings before anything long is computed.

        Raises:
            InputError: noise levels that are not a schedule, or a setting that its sampler or guidance does not use.
        """
        sampling.check_levels(sampling.SCHEDULES[self.schedule](self.steps, self.sigma_min, self.sigma_max),
                              self.corrections, self.churn, self.sampler == "dpm-solver")
        if changed := [name for name in self.ignored_settings if getattr(self, name) != getattr(Method, name)]:
            raise InputError(f"the method's guidance, {self.guidance}, does not use {changed[0]}")

    def replace(self, **settings) -> "Method":
        """A copy with these settings, where they are not None.

        Raises:
            InputError: there is no such setting, sampler or schedule.
        """
        names = {field.name for field in fields(self)} - {"summary", "guidance"}
        for key in settings:
            if key not in names:
                raise InputError(f"there is no setting {key!r}; there are {', '.join(sorted(names))}")
        new = replace(self, **{key: value for key, value in settings.items() if value is not None})
        for name, table in (("sampler", sampling.SAMPLERS), ("schedule", sampling.SCHEDULES)):
            if getattr(new, name) not in table:
                raise InputError(f"there is no {name} {getattr(new, name)!r}; there are {', '.join(table)}")
        return new


METHODS = {
    "mixture-constrained": Method("mixture-constrained (zero-sum) noise; one step gives the posterior mean",
                                  "conditioned", 1, 10.0, 1e-2),
    "dirac": Method("the paper's Dirac likelihood: one stem is the mixture minus the others", "dirac", 150, 1.0, 1e-4,
                    20.0, 2),
    "gaussian": Method("the paper's Gaussian likelihood: the sum of the stems is near the mixture", "gaussian", 150,
                       1.0, 1e-4, 40.0, 2),
    "wiener": Method("the prior, its estimate corrected to sum to the mixture by Wiener shares", "wiener", 30, 1.0,
                     1e-2, 30.0),
    "pigdm": Method("the prior, and a likelihood through the denoiser's Jacobian (PiGDM)", "pigdm", 50, 1.0, 1e-2, 10.0,
                    gradient_clip=1.0),
    "projdiff": Method("optimization by the prior, projected on the mixture (ProjDiff)", "projdiff", 30, 1.0, 0.05),
    "guided": Method("a model conditioned on the mixture, with classifier-free guidance", "guided", 20, 10.0, 1e-2,
                     5.0),
}
IMPUTATIONS = {
    "stems-given": Method("noise on the other stems only; the given stems are clean", "conditioned", 30, 10.0, 1e-2,
                          sampler="dpm-solver"),
    "replacement": Method("the noisy given stems replace the state's before every evaluation; the paper's", "prior",
                          256, 20.0, 1e-4, 10.0),
}
GENERATIONS = {
    "ode": Method("the prior without churn", "prior", 30, 10.0, 1e-2, sampler="dpm-solver"),
    "paper": Method("the prior with the paper's churn and noise levels", "prior", 150, 20.0, 1e-4, 20.0),
}
# Unlike sound, sketches do not have a mean of zero. For six seconds (50 000 values) the norm of their mean is 110, and
# the standard deviation along the direction of overall level is 64. sigma_max has to exceed both, or the result is soft
SKETCHES = {
    "ode": Method("sketches: whole, or of the stems that are not given", "conditioned", 30, 320.0, 1e-2,
                  sampler="dpm-solver"),
}


def by_name(name: str, table: dict[str, Method] = METHODS, **settings) -> Method:
    """The method of that name with these settings, where they are not None.

    Raises:
        InputError: no such method or setting.
    """
    if name not in table:
        raise InputError(f"there is no method {name!r}; there are {', '.join(table)}")
    return table[name].replace(**settings)


def conditional(denoise: Denoise, shape: Sequence[int], method: Method, y: Tensor | None = None,
                given: Tensor | None = None, stems: Sequence[int] = (), mask: Tensor | None = None,
                variance: Tensor | None = None, generator: Noise = None,
                device: torch.device | None = None) -> Generator[sampling.State, None, Tensor]:
    """The sampler, a generator of states, for any task of a denoiser.

    Args:
        denoise: obeys the denoiser contract.
        shape: of the stems, (B, S, ...).
        y: the mixture, (B, ...), if it is known.
        given: clean stems (B, S, ...), if some are known; the others are not used.
        stems: indices of the known stems.
        mask: what else is known, as for `Replacement`: a span of time. Only for the prior, without a mixture.
        variance: of each stem's coefficients, for the methods "wiener" and "pigdm": as `StemModel.variance`.
        device: of the state, if neither y nor given has one.

    Raises:
        InputError: settings that do not fit together, or a method that does not support the task.
    """
    S = shape[1]
    if not all(0 <= n < S for n in stems) or len(set(stems)) == S:
        raise InputError(f"of {S} stems, {list(stems)} cannot be the known ones: at least one has to be unknown")
    if (given is None) != (not stems and mask is None):
        raise InputError("known stems need their sound in `given`, and `given` needs known stems or a mask")
    if mask is not None and y is not None:
        raise InputError("a span of time is imputed by the prior alone: no mixture goes with a mask")
    method.check()
    others = [n for n in range(S) if n not in stems]
    like = given if given is not None else torch.empty((), device=device) if y is None else y
    sigmas = sampling.SCHEDULES[method.schedule](method.steps, method.sigma_min, method.sigma_max)
    x = white(like.new_empty(()).expand(tuple(shape)), generator)
    x.mul_(method.sigma_max)  # in place: the state of a long song is large
    remainder = y if y is None or given is None or not stems else y - given[:, list(stems)].sum(1)
    among = others if stems else None
    conditioning = constraint = None
    if method.guidance == "conditioned":
        if mask is not None:
            raise InputError("a span of time is imputed by replacement: choose that method")
        if y is not None or stems:
            conditioning = Conditioning.on_stems(x, stems, y is not None)
            x = project(x, conditioning)
            if given is not None:
                x[:, list(stems)] = given[:, list(stems)]
            if remainder is not None:  # the sum over all stems is y
                for stem in others:
                    x[:, stem].add_(remainder, alpha=1 / len(others))
        guide = guidance.conditioned(conditioning)
        if method.weight != 1:
            if not stems or y is not None or conditioning is None:
                raise InputError("a weight is for given stems without a mixture")
            guide = guidance.conditioned_with_weight(conditioning, white(x, generator), method.weight)
    elif method.guidance == "projdiff":
        if y is None or stems or mask is not None:
            raise InputError("ProjDiff separates a mixture without known stems, and does nothing else")
        return projdiff(y, S, sigmas, denoise, method.inner_steps, generator=generator)
    else:
        if given is not None:
            known = torch.zeros(S, *[1] * (x.ndim - 2), dtype=torch.bool, device=x.device)
            known[list(stems)] = True
            constraint = (Replacement(given[:, list(stems)], known[list(stems)], list(stems)) if mask is None else
                          Replacement(given, known | mask.to(x.device)))  # of a long song only what is needed
        guide = _guide(method, remainder, y, among, others, variance, denoise)
    return sampling.SAMPLERS[method.sampler](x, sigmas, guide, denoise, method.churn, method.corrections, conditioning,
                                             constraint, generator)


def _guide(method: Method, y: Tensor | None, mixture: Tensor | None, among: list[int] | None, others: list[int],
           variance: Tensor | None, denoise: Denoise) -> guidance.Guidance:
    """The guidance of a method for models without conditioning; y is the sum of the unknown stems, mixture that of all.

    Raises:
        InputError: the method does not fit the task, or needs the variance.
    """
    kind = method.guidance
    if (kind == "prior") != (y is None):
        raise InputError("a mixture needs a method of separation" if kind == "prior"
                         else f"the method {kind} needs a mixture")
    if y is None:
        return guidance.unconditional()
    if kind == "dirac":
        return guidance.dirac(y, others[0] if method.constrained_stem is None else method.constrained_stem, among)
    if kind == "gaussian":
        return guidance.gaussian(y, method.c, among)
    if kind == "guided":
        return guidance.classifier_free(lambda x, sigma: denoise(x, sigma, mixture=mixture), method.weight)
    if variance is None:
        raise InputError(f"the method {kind} needs the variance of the stems")
    return (guidance.wiener(y, variance, among) if kind == "wiener" else
            guidance.pigdm(y, variance, among, method.gradient_clip))
