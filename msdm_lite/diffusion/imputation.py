"""Imputation by replacement: what is given is put back, as noisy as the rest, before every evaluation.

It asks nothing of a model but its prior, and takes any part of any stem, any span of time. The new parts see the given
ones through noise only, so a bias stays that more steps do not cure; sampling every level again (R > 1) lessens it.
Source: Mariani et al., arXiv 2302.02257, section 4; Lugmayr et al., RePaint, arXiv 2201.09865. Chapter:
`book/08-imputation.ipynb`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msdm_lite.errors import InputError


@dataclass(frozen=True)
class Replacement:
    """What is given, and where.

    Args:
        given: clean stems like the state, (B, S, ...), or only some of them; where the mask is False they do not
            matter, but must be finite.
        mask: True where they are given; broadcasts to `given`. Stems: (S, 1, 1); a span of frames: (1, 1, L).
        stems: which stems of the state `given` holds, by number; all of them if None.

    Raises:
        InputError: a mask that does not fit.
    """

    given: Tensor
    mask: Tensor
    stems: Sequence[int] | None = None

    def __post_init__(self) -> None:
        try:
            torch.broadcast_to(self.mask, self.given.shape)
        except RuntimeError:
            raise InputError(f"a mask of shape {tuple(self.mask.shape)} does not fit stems of "
                             f"{tuple(self.given.shape)}") from None
        if self.mask.dtype != torch.bool:
            raise InputError(f"a mask says True or False, and is not {self.mask.dtype}")

    def among(self, x: Tensor) -> Tensor:
        """Of the state or its noise (B, S, ...), the stems that `given` holds."""
        return x if self.stems is None else x[:, list(self.stems)]

    def impose(self, x: Tensor, sigma: float = 0.0, n: Tensor | None = None) -> Tensor:
        """x (B, S, ...) with the given parts in place, carrying noise sigma * n if n, like `given`, is there.

        x stays as it was.
        """
        new, mask = x.clone(), self.mask.expand_as(self.given)  # one stem at a time: that of a long song is large
        for row, stem in enumerate(range(x.shape[1]) if self.stems is None else self.stems):
            clean = self.given[:, row]
            new[:, stem] = torch.where(mask[:, row], clean if n is None else torch.add(clean, n[:, row], alpha=sigma),
                                       x[:, stem])
        return new
