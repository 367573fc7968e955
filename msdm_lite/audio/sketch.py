"""A sketch of a band: how loud each stem is, in some hundred bands of frequency, from frame to frame.

A picture says every coefficient with its sign. A sketch says only where there is energy: when a drum is hit, which
notes sound. It has a tenth of the numbers, and what a listener calls music is all in it. So a small model can learn to
make sketches, and the model of MDCT spectrograms decodes a sketch into sound. Chapter:
`book/06-total-generation.ipynb`.
"""

import torch
from torch import Tensor

from msdm_lite.audio.transforms import MDCT, pseudo_energy
from msdm_lite.errors import InputError

# (bins, how many make a band), low to high: single bins where notes of a bass are that close, broad bands for cymbals
GROUPS = ((32, 1), (32, 2), (64, 4), (128, 8), (256, 32), (512, 64))
FLOOR = 1e-6  # of a band's energy; a stem where it plays has some 1e-3
MIDDLE, SPREAD = -4.4, 1.7  # mean and deviation of log10 of these energies over the training songs


def bands(groups: tuple[tuple[int, int], ...] = GROUPS) -> int:
    """How many rows such a sketch has."""
    return sum(bins // size for bins, size in groups)


def sketch(coefficients: Tensor, groups: tuple[tuple[int, int], ...] = GROUPS) -> Tensor:
    """The sketch (..., bands, L) of MDCT pictures (..., bins, L): log energies, scaled to mean 0 and deviation 1."""
    energy = pseudo_energy(coefficients) / 2
    parts = [part.unflatten(-2, (bins // size, size)).mean(-2)
             for (bins, size), part in zip(groups, energy.split([bins for bins, _ in groups], -2), strict=True)]
    return ((torch.cat(parts, -2) + FLOOR).log10() - MIDDLE) / SPREAD


def spread(drawn: Tensor, groups: tuple[tuple[int, int], ...] = GROUPS) -> Tensor:
    """A sketch (..., bands, L) at the resolution of pictures, (..., bins, L): each band's value for all its bins."""
    parts = drawn.split([bins // size for bins, size in groups], -2)
    return torch.cat([part.repeat_interleave(size, -2) for (_, size), part in zip(groups, parts, strict=True)], -2)


class Sketching:
    """A front end: from a waveform to its sketch, by way of the MDCT. There is no way back."""

    def __init__(self, bins: int, groups: tuple[tuple[int, int], ...] = GROUPS):
        self.mdct, self.groups = MDCT(bins), groups

    def forward(self, wave: Tensor) -> Tensor:
        """(..., T) -> (..., bands, T / bins). Raises InputError if T is no positive multiple of `bins`."""
        return sketch(self.mdct.forward(wave), self.groups)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """What other front ends have, and this one cannot.

        Raises:
            InputError: always. A sketch has no sound of its own.
        """
        raise InputError("a sketch has no sound: a model that decodes sketches makes sound of it")
