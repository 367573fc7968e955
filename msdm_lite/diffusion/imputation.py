"""Imputation by replacement (inpainting): the given parts, at the current noise level, replace those of the state.

This is done before every evaluation. It needs the prior alone, and any part of any stem or span of time can be given.
The generated parts depend on the given ones only through noise, so a bias remains that more steps do not remove;
corrector steps (R > 1) reduce it. Source: Mariani et al., arXiv 2302.02257, section 4; Lugmayr et al., RePaint, arXiv
2201.09865. Chapter: `book/08-imputation.ipynb`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msdm_lite.errors import InputError


@dataclass(frozen=True)
class Replacement:
    """The constraint of imputation: the given values and their mask.

    Args:
        given: clean stems like the state, (B, S, ...), or only some of them; where the mask is False the values are
            not used, but must be finite.
        mask: True where they are given; broadcasts to `given`. Stems: (S, 1, 1); a span of frames: (1, 1, L).
        stems: indices of the stems that `given` has; all of them if None.

    Raises:
        InputError: the mask does not broadcast to `given`, or is not boolean.
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
            raise InputError(f"a mask is of bool, not {self.mask.dtype}")

    def among(self, x: Tensor) -> Tensor:
        """The stems of x (B, S, ...), the state or its noise, that `given` has: like `given`."""
        return x if self.stems is None else x[:, list(self.stems)]

    def impose(self, x: Tensor, sigma: float = 0.0, n: Tensor | None = None) -> Tensor:
        """A copy of x (B, S, ...) with the given parts replaced by `given` + sigma * n; clean if n is None.

        n has the shape of `given`.
        """
        new, mask = x.clone(), self.mask.expand_as(self.given)  # one stem at a time: that of a long song is large
        for row, stem in enumerate(range(x.shape[1]) if self.stems is None else self.stems):
            clean = self.given[:, row]
            new[:, stem] = torch.where(mask[:, row], clean if n is None else torch.add(clean, n[:, row], alpha=sigma),
                                       x[:, stem])
        return new
