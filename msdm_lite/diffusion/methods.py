"""The methods by name, each with its settings, and the one function that starts any of them on any task.

A task is what is known: nothing (generation), the mixture (separation), some stems or a span of time (imputation), or
the mixture and some stems. `conditional` looks at the stem axis alone, so it serves pictures, samples of audio and
points of the oracle. Chapter: `book/07-separation.ipynb`.
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
    """A guidance, a sampler, and their settings. The published ones are the paper's."""

    summary: str
    guidance: str  # "inside", "prior", "dirac", "gaussian", "wiener", "pigdm", "projdiff" or "guided"
    steps: int  # noise levels
    sigma_max: float  # the first of them,
    sigma_min: float = 1e-3  # the last but 0
    churn: float = 0.0
    corrections: int = 1  # R
    sampler: str = "euler"
    schedule: str = "karras"
    c: float = 0.75 * 2**0.5  # Gaussian: gamma / sigma
    constrained_stem: int | tuple[int, ...] | None = None  # Dirac: stem k; the first that is unknown, if not given
    gradient_clip: float = float("inf")  # PiGDM: the longest pull, in units of that of Wiener shares
    inner_steps: int = 5  # ProjDiff: evaluations a level
    weight: float = 1.0  # classifier-free guidance, by the mixture or by given stems

    @property
    def nfe(self) -> int:
        """Calls of the denoiser in all; one of them may be several networks."""
        if self.guidance == "projdiff":
            return self.steps * self.inner_steps
        times = 2 if self.guidance in ("guided", "conditioned") and self.weight != 1 else 1
        steps = 2 * self.steps - 1 if self.sampler == "heun" else self.steps
        return times * self.corrections * steps

    @property
    def needs_conditioning(self) -> bool:
        """Only for models trained on all shapes of noise."""
        return self.guidance == "conditioned"

    @property
    def ignored_settings(self) -> tuple[str, ...]:
        """Settings that its guidance makes no use of."""
        own = {"gaussian": ("c",), "dirac": ("constrained_stem",), "pigdm": ("gradient_clip",),
               "projdiff": ("inner_steps",),
               "guided": ("weight",), "conditioned": ("weight",)}.get(self.guidance, ())
        ways = ("churn", "corrections", "sampler") if self.guidance == "projdiff" else ()
        return (*(name for name in ("c", "constrained_stem", "gradient_clip", "inner_steps", "weight")
                  if name not in own), *ways)

    def check(self) -> None:
        """Can it be run at all? To be asked before anything long is computed.

        Raises:
            InputError: levels that make no schedule, settings that its sampler or its guidance makes no use of.
        """
        sampling.check_levels(sampling.SCHEDULES[self.schedule](self.steps, self.sigma_min, self.sigma_max),
                              self.corrections,
                              self.churn, self.sampler == "dpm-solver")
        if ignored_settings := [name for name in self.ignored_settings if getattr(self, name) != getattr(Method, name)]:
            raise InputError(f"the method's guidance, {self.guidance}, makes no use of {ignored_settings[0]}")

    def replace(self, **settings) -> "Method":
        """With other settings, those that are not None.

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
    "mixture-constrained": Method("noise that leaves the mixture clean; one step is the posterior mean", "conditioned",
                                  1, 10.0,
                            1e-2),
    "dirac": Method("the paper's Dirac likelihood: one stem is the mixture minus the others", "dirac", 150, 1.0, 1e-4,
                    20.0, 2),
    "gaussian": Method("the paper's Gaussian likelihood: the sum of the stems is near the mixture", "gaussian", 150,
                       1.0, 1e-4, 40.0, 2),
    "wiener": Method("the prior, its guess made to sum to the mixture by shares of a Wiener filter", "wiener", 30, 1.0,
                     1e-2, 30.0),
    "pigdm": Method("the prior, and a likelihood through its Jacobian (PiGDM)", "pigdm", 50, 1.0, 1e-2, 10.0,
                    gradient_clip=1.0),
    "projdiff": Method("the prior, its guess moved in small steps on the mixture (ProjDiff)", "projdiff", 30, 1.0,
                       0.05),
    "guided": Method("a model conditioned on the mixture, with classifier-free guidance", "guided", 20, 10.0, 1e-2,
                     5.0),
}
IMPUTATIONS = {
    "stems-given": Method("noise that leaves the given stems clean", "conditioned", 30, 10.0, 1e-2,
                          sampler="dpm-solver"),
    "replacement": Method("the given stems are put back, noisy, before every evaluation; the paper's", "prior", 256,
                          20.0, 1e-4, 10.0),
}
GENERATIONS = {
    "ode": Method("the prior alone, without fresh noise", "prior", 30, 10.0, 1e-2, sampler="dpm-solver"),
    "paper": Method("the prior alone, as published", "prior", 150, 20.0, 1e-4, 20.0),
}
# Sketches are not centred as sound is. In a space of 50 000 numbers their mean is 110 from 0, and how loud all play is
# a direction in which they spread by 64 (six seconds). The first noise must drown both, or the players are too soft
SKETCHES = {
    "ode": Method("sketches: whole, or of the stems that are not given", "conditioned", 30, 320.0, 1e-2,
                  sampler="dpm-solver"),
}


def by_name(name: str, table: dict[str, Method] = METHODS, **settings) -> Method:
    """The method of that name with other settings, where they are not None. Raises InputError for an unknown one."""
    if name not in table:
        raise InputError(f"there is no method {name!r}; there are {', '.join(table)}")
    return table[name].replace(**settings)


def conditional(denoise: Denoise, shape: Sequence[int], method: Method, y: Tensor | None = None,
                given: Tensor | None = None, stems: Sequence[int] = (), mask: Tensor | None = None,
                variance: Tensor | None = None,
                generator: Noise = None,
                device: torch.device | None = None) -> Generator[sampling.State, None, Tensor]:
    """The sampler, a generator of states, of whatever is asked of a denoiser.

    Args:
        denoise: obeys the denoiser contract.
        shape: of the stems, (B, S, ...).
        y: the mixture, (B, ...), if it is known.
        given: clean stems (B, S, ...), where some are known; the others do not matter.
        stems: which of them are known, by number.
        mask: what is known besides, as for `Replacement`: a span of time; for the prior alone, without a mixture.
        device: where to work, if there is neither y nor given to say it.
        variance: of each stem's coefficients, for the methods "wiener" and "pigdm": as `StemModel.variance`.

    Raises:
        InputError: settings that make no sense, or a method that cannot do the task.
    """
    S = shape[1]
    if not all(0 <= n < S for n in stems) or len(set(stems)) == S:
        raise InputError(f"of {S} stems, {list(stems)} cannot be the known ones: some must be left to find")
    if (given is None) != (not stems and mask is None):
        raise InputError("known stems need their sound, and the other way round")
    if mask is not None and y is not None:
        raise InputError("a span of time is imputed by the prior alone: no mixture goes with a mask")
    method.check()
    others = [n for n in range(S) if n not in stems]
    like = given if given is not None else torch.empty((), device=device) if y is None else y
    sigmas = sampling.SCHEDULES[method.schedule](method.steps, method.sigma_min, method.sigma_max)
    x = white(like.new_empty(()).expand(tuple(shape)), generator)
    x.mul_(method.sigma_max)  # in place: that of a long song is large
    rest = y if y is None or given is None or not stems else y - given[:, list(stems)].sum(1)
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
            if rest is not None:  # the sum over all stems is y
                for stem in others:
                    x[:, stem].add_(rest, alpha=1 / len(others))
        guide = guidance.conditioned(conditioning)
        if method.weight != 1:
            if not stems or y is not None or conditioning is None:
                raise InputError("a weight exaggerates what given stems say: there must be some, and no mixture")
            guide = guidance.conditioned_with_weight(conditioning, white(x, generator), method.weight)
    elif method.guidance == "projdiff":
        if y is None or stems or mask is not None:
            raise InputError("ProjDiff separates a mixture of which no stem is known")
        return projdiff(y, S, sigmas, denoise, method.inner_steps, generator=generator)
    else:
        if given is not None:
            where = torch.zeros(S, *[1] * (x.ndim - 2), dtype=torch.bool, device=x.device)
            where[list(stems)] = True
            constraint = (Replacement(given[:, list(stems)], where[list(stems)], list(stems)) if mask is None else
                    Replacement(given, where | mask.to(x.device)))  # of a long song only what is needed
        guide = _guide(method, rest, y, among, others, variance, denoise)
    return sampling.SAMPLERS[method.sampler](x, sigmas, guide, denoise, method.churn, method.corrections, conditioning,
                                             constraint,
                                             generator)


def _guide(method: Method, y: Tensor | None, whole: Tensor | None, among: list[int] | None, others: list[int],
           variance: Tensor | None, denoise: Denoise) -> guidance.Guidance:
    """The guidance of a method for models of noise on all stems: y is what the unknown stems sum to, whole what all."""
    kind = method.guidance
    if (kind == "prior") != (y is None):
        raise InputError("a mixture needs a method of separation" if kind == "prior" else "there is no mixture to meet")
    if y is None:
        return guidance.unconditional()
    if kind == "dirac":
        return guidance.dirac(y, others[0] if method.constrained_stem is None else method.constrained_stem, among)
    if kind == "gaussian":
        return guidance.gaussian(y, method.c, among)
    if kind == "guided":
        return guidance.classifier_free(lambda x, sigma: denoise(x, sigma, mixture=whole), method.weight)
    if variance is None:
        raise InputError(f"the method {kind} needs the variance of the stems")
    return (guidance.wiener(y, variance, among) if kind == "wiener" else
            guidance.pigdm(y, variance, among, method.gradient_clip))
