"""What is known: `Conditioning`, what a denoiser is given beside its input, and `Task`, the values for a sampler.

Nothing known: all stems are noisy, and the denoiser is that of the prior. The mixture known: the noise sums to zero
over the stems (mixture-constrained or zero-sum noise), so that the noisy stems sum to the clean mixture. Some stems, or
a span of time, known: those parts carry no noise. Any combination is allowed. Zero-sum noise is FLOSS's (arXiv
2505.16119). Chapter: `book/07-separation.ipynb`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from msdm_lite.errors import InputError


@dataclass(frozen=True)
class Conditioning:
    """What is known of each item of a batch x (B, S, ...).

    Args:
        mixture: (B,) bool, whether the noise of x sums to zero, so that the sum of x is the clean mixture.
        stems: (B, S) bool, which stems of x are clean.
        span: bool, which part of x is clean beside those stems: broadcasts to x, as (1, 1, 1, L) for a span of frames.
        conditions: what else is known, by name, with the batch as the first axis: "mixture" (B, ...) for a model that
            has the mixture as an input, "sketch", "beat_phase", or what a model of your own takes.
    """

    mixture: Tensor
    stems: Tensor
    span: Tensor | None = None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def none(cls, x: Tensor, **conditions: Tensor) -> "Conditioning":
        """Nothing is known but the `conditions`, for a batch like x, (B, S, ...)."""
        B, S = x.shape[:2]
        return cls(torch.zeros(B, dtype=torch.bool, device=x.device),
                   torch.zeros(B, S, dtype=torch.bool, device=x.device), conditions=conditions)

    @classmethod
    def on_mixture(cls, x: Tensor, **conditions: Tensor) -> "Conditioning":
        """The mixture is known, for a batch like x, (B, S, ...)."""
        none = cls.none(x)
        return cls(~none.mixture, none.stems, conditions=conditions)

    @classmethod
    def on_stems(cls, x: Tensor, stems: Iterable[int], mixture: bool = False, **conditions: Tensor) -> "Conditioning":
        """The stems with these indices are known, and the mixture if asked, for a batch like x, (B, S, ...)."""
        conditioning = cls.on_mixture(x, **conditions) if mixture else cls.none(x, **conditions)
        conditioning.stems[:, list(stems)] = True
        return conditioning

    def given(self, name: str) -> Tensor | None:
        """The further condition of that name, or None."""
        return self.conditions.get(name)

    def with_conditions(self, **conditions: Tensor) -> "Conditioning":
        """A copy with these further conditions beside its own."""
        return replace(self, conditions={**self.conditions, **conditions})

    def items(self, rows: Tensor) -> "Conditioning":
        """The conditioning of the items with these indices, (rows,)."""
        span = self.span if self.span is None or len(self.span) == 1 else self.span[rows]
        return Conditioning(self.mixture[rows], self.stems[rows], span,
                            {name: value[rows] for name, value in self.conditions.items()})

    def any_known(self) -> bool:
        """Whether any part of any item is clean, or its sum."""
        return bool(self.mixture.any() or self.stems.any() or (self.span is not None and self.span.any()))

    def require(self, model: str, *names: str) -> None:
        """Check that there are no further conditions but those with these names.

        Raises:
            InputError: there is another; the message names it and the model.
        """
        if others := [name for name in self.conditions if name not in names]:
            raise InputError(f"{model} cannot be conditioned on the {others[0].replace('_', ' ')}")

    def flags(self) -> Tensor:
        """The flags as floats, (B, 1 + S): the mixture's, then the stems'."""
        return torch.cat([self.mixture[:, None], self.stems], 1).float()

    def unknown(self, like: Tensor) -> Tensor:
        """1 where x is noisy, 0 where it is clean: (B, S, 1, ...), or with the axes of `span`, as many as `like`."""
        free = (~self.stems).to(like).reshape(*self.stems.shape, *[1] * (like.ndim - 2))
        return free if self.span is None else free * ~self.span.to(like.device)


class Denoise(Protocol):
    """A denoiser: the one contract between models, analytic distributions, samplers and guidances.

    x is (B, S, ...) at noise level sigma (B,); the result, like x, is the conditional mean of the clean stems given x
    and the conditioning (None: nothing is known). Its score is (result - x) / sigma^2 (Tweedie's formula).
    """

    def __call__(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Task:
    """The values of what is known of the bands to sample: nothing is generation, the mixture separation, and so on.

    Args:
        shape: of the stems, (B, S, ...).
        mixture: (B, ...), or None.
        given: clean stems (B, S, ...), or None; only the parts that `stems` and `span` name are used.
        stems: indices of the given stems.
        span: bool, the given part of `given` beside those stems, broadcasting to it: a span of time.
        conditions: further conditions of the denoiser by name, see `Conditioning`.
        variance: prior variance of each stem's coefficients, broadcasting to one item, for guidances that need it.

    Raises:
        InputError: they do not fit together.
    """

    shape: tuple[int, ...]
    mixture: Tensor | None = None
    given: Tensor | None = None
    stems: Sequence[int] = ()
    span: Tensor | None = None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    variance: Tensor | None = None

    def __post_init__(self) -> None:
        S = self.shape[1]
        if not all(0 <= n < S for n in self.stems) or len(set(self.stems)) == S:
            raise InputError(f"of {S} stems, {list(self.stems)} cannot be the known ones: at least one has to be "
                             "unknown")
        if (self.given is None) != (not self.stems and self.span is None):
            raise InputError("known stems need their sound in `given`, and `given` needs known stems or a span")
        if self.span is not None and self.mixture is not None:
            raise InputError("a span of time is imputed by the prior alone: no mixture goes with a span")

    @property
    def others(self) -> list[int]:
        """Indices of the stems that are not given."""
        return [n for n in range(self.shape[1]) if n not in self.stems]

    @property
    def among(self) -> list[int] | None:
        """Indices of the stems that sum to `remainder`: None for all."""
        return self.others if self.stems else None

    @property
    def remainder(self) -> Tensor | None:
        """The mixture minus the given stems, (B, ...)."""
        if self.mixture is None or self.given is None or not self.stems:
            return self.mixture
        return self.mixture - self.given[:, list(self.stems)].sum(1)

    def like(self, device: torch.device | None = None) -> Tensor:
        """An empty tensor of the state's type and device; `device` counts if nothing known has one."""
        for known in (self.given, self.mixture):
            if known is not None:
                return known.new_empty(())
        return torch.empty((), device=device)

    def conditioning(self, x: Tensor) -> Conditioning | None:
        """What a denoiser is given of a state x in which all that is known is clean; None if nothing is."""
        if self.mixture is None and not self.stems and self.span is None and not self.conditions:
            return None
        known = Conditioning.on_stems(x, self.stems, self.mixture is not None, **self.conditions)
        return known if self.span is None else replace(known, span=self.span)

    def unconditional(self, x: Tensor) -> Conditioning | None:
        """What a denoiser is given of a state x that is noisy everywhere: the further conditions alone."""
        return Conditioning.none(x, **self.conditions) if self.conditions else None
