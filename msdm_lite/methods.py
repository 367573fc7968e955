"""The methods by name, each with its settings, and the one function that starts any of them on any task.

A task is what is known: nothing (generation), the mixture (separation), some stems or a span of time (imputation), or
the mixture and some stems. `conditional` looks at the stem axis alone, so it serves pictures, samples of audio and
points of the oracle. Chapter: `book/07-separation.ipynb`.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from msdm_lite import guidance, sampling
from msdm_lite.errors import InputError
from msdm_lite.guidance import Denoise
from msdm_lite.imputation import Replacement
from msdm_lite.known import Known, Noise, project, white
from msdm_lite.projdiff import projdiff


@dataclass(frozen=True)
class Method:
    """A guidance, a sampler, and their settings. The published ones are the paper's."""

    summary: str
    guidance: str  # "inside", "prior", "dirac", "gaussian", "wiener", "pigdm", "projdiff" or "guided"
    steps: int  # noise levels
    high: float  # the first of them,
    low: float = 1e-3  # the last but 0
    churn: float = 0.0
    corrections: int = 1  # R
    sampler: str = "euler"
    schedule: str = "karras"
    c: float = 0.75 * 2**0.5  # Gaussian: gamma / sigma
    constrained: int | tuple[int, ...] | None = None  # Dirac: stem k; the first that is unknown, if not given
    trust: float = float("inf")  # PiGDM: the longest pull, in units of that of Wiener shares
    rounds: int = 5  # ProjDiff: evaluations a level
    weight: float = 1.0  # classifier-free guidance, by the mixture or by given stems

    @property
    def evaluations(self) -> int:
        """Calls of the denoiser in all; one of them may be several networks."""
        if self.guidance == "projdiff":
            return self.steps * self.rounds
        times = 2 if self.guidance in ("guided", "inside") and self.weight != 1 else 1
        steps = 2 * self.steps - 1 if self.sampler == "heun" else self.steps
        return times * self.corrections * steps

    @property
    def needs_shapes(self) -> bool:
        """Only for models trained on all shapes of noise."""
        return self.guidance == "inside"

    @property
    def unread(self) -> tuple[str, ...]:
        """Settings that its guidance makes no use of."""
        own = {"gaussian": ("c",), "dirac": ("constrained",), "pigdm": ("trust",), "projdiff": ("rounds",),
               "guided": ("weight",), "inside": ("weight",)}.get(self.guidance, ())
        ways = ("churn", "corrections", "sampler") if self.guidance == "projdiff" else ()
        return (*(name for name in ("c", "constrained", "trust", "rounds", "weight") if name not in own), *ways)

    def check(self) -> None:
        """Can it be run at all? To be asked before anything long is computed.

        Raises:
            InputError: levels that make no schedule, settings that its sampler or its guidance makes no use of.
        """
        sampling.check_levels(sampling.SCHEDULES[self.schedule](self.steps, self.low, self.high), self.corrections,
                              self.churn, self.sampler == "dpm-solver")
        if unread := [name for name in self.unread if getattr(self, name) != getattr(Method, name)]:
            raise InputError(f"the method's guidance, {self.guidance}, makes no use of {unread[0]}")

    def but(self, **settings) -> "Method":
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
    "mixture-known": Method("noise that leaves the mixture clean; one step is the posterior mean", "inside", 1, 10.0,
                            1e-2),
    "dirac": Method("the paper's Dirac likelihood: one stem is the mixture minus the others", "dirac", 150, 1.0, 1e-4,
                    20.0, 2),
    "gaussian": Method("the paper's Gaussian likelihood: the sum of the stems is near the mixture", "gaussian", 150,
                       1.0, 1e-4, 40.0, 2),
    "wiener": Method("the prior, its guess made to sum to the mixture by shares of a Wiener filter", "wiener", 30, 1.0,
                     1e-2, 30.0),
    "pigdm": Method("the prior, and a likelihood through its Jacobian (PiGDM)", "pigdm", 50, 1.0, 1e-2, 10.0,
                    trust=1.0),
    "projdiff": Method("the prior, its guess moved in small steps on the mixture (ProjDiff)", "projdiff", 30, 1.0,
                       0.05),
    "guided": Method("a model that is told the mixture, with classifier-free guidance", "guided", 20, 10.0, 1e-2, 5.0),
}
IMPUTATIONS = {
    "stems-known": Method("noise that leaves the given stems clean", "inside", 30, 10.0, 1e-2, sampler="dpm-solver"),
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
    "ode": Method("sketches: whole, or of the stems that are not given", "inside", 30, 320.0, 1e-2,
                  sampler="dpm-solver"),
}


def named(name: str, table: dict[str, Method] = METHODS, **settings) -> Method:
    """The method of that name with other settings, where they are not None. Raises InputError for an unknown one."""
    if name not in table:
        raise InputError(f"there is no method {name!r}; there are {', '.join(table)}")
    return table[name].but(**settings)


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
    sigmas = sampling.SCHEDULES[method.schedule](method.steps, method.low, method.high)
    x = white(like.new_empty(()).expand(tuple(shape)), generator)
    x.mul_(method.high)  # in place: that of a long song is large
    rest = y if y is None or given is None or not stems else y - given[:, list(stems)].sum(1)
    among = others if stems else None
    known = hold = None
    if method.guidance == "inside":
        if mask is not None:
            raise InputError("a span of time is imputed by replacement: choose that method")
        if y is not None or stems:
            known = Known.these(x, stems, y is not None)
            x = project(x, known)
            if given is not None:
                x[:, list(stems)] = given[:, list(stems)]
            if rest is not None:  # the sum over all stems is y
                for stem in others:
                    x[:, stem].add_(rest, alpha=1 / len(others))
        guide = guidance.inside(known)
        if method.weight != 1:
            if not stems or y is not None or known is None:
                raise InputError("a weight exaggerates what given stems say: there must be some, and no mixture")
            guide = guidance.following(known, white(x, generator), method.weight)
    elif method.guidance == "projdiff":
        if y is None or stems or mask is not None:
            raise InputError("ProjDiff separates a mixture of which no stem is known")
        return projdiff(y, S, sigmas, denoise, method.rounds, generator=generator)
    else:
        if given is not None:
            where = torch.zeros(S, *[1] * (x.ndim - 2), dtype=torch.bool, device=x.device)
            where[list(stems)] = True
            hold = (Replacement(given[:, list(stems)], where[list(stems)], list(stems)) if mask is None else
                    Replacement(given, where | mask.to(x.device)))  # of a long song only what is needed
        guide = _guide(method, rest, y, among, others, variance, denoise)
    return sampling.SAMPLERS[method.sampler](x, sigmas, guide, denoise, method.churn, method.corrections, known, hold,
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
        return guidance.dirac(y, others[0] if method.constrained is None else method.constrained, among)
    if kind == "gaussian":
        return guidance.gaussian(y, method.c, among)
    if kind == "guided":
        return guidance.classifier_free(lambda x, sigma: denoise(x, sigma, mixture=whole), method.weight)
    if variance is None:
        raise InputError(f"the method {kind} needs the variance of the stems")
    return (guidance.wiener(y, variance, among) if kind == "wiener" else
            guidance.pigdm(y, variance, among, method.trust))
