"""Sketches: coarse spectrograms, the log energy of each stem in about a hundred frequency bands per frame.

An MDCT spectrogram has every coefficient with its sign. A sketch has only energies: when a drum is hit, and which notes
sound. It has a tenth of the numbers and keeps the musical structure. So a small model can be trained to generate
sketches, and a model of MDCT spectrograms decodes a sketch into sound. Chapter: `book/06-total-generation.ipynb`.
"""

import torch
from torch import Tensor

from msdm_lite.audio.levels import STEM_RMS
from msdm_lite.audio.transforms import MDCT, Framed, pseudo_energy
from msdm_lite.errors import InputError

# (bins, bins in a band), low to high: single bins where bass notes are close together, wide bands for cymbals
GROUPS = ((32, 1), (32, 2), (64, 4), (128, 8), (256, 32), (512, 64))
FLOOR = 1e-6  # added to a band's energy; an active stem has about 1e-3
MIDDLE, SPREAD = -4.4, 1.7  # mean and standard deviation of log10 of these energies over the training songs


def bands(groups: tuple[tuple[int, int], ...] = GROUPS) -> int:
    """Number of frequency bands of such a sketch."""
    return sum(bins // size for bins, size in groups)


def sketch(coefficients: Tensor, groups: tuple[tuple[int, int], ...] = GROUPS,
           stem_rms: float | None = STEM_RMS) -> Tensor:
    """The sketch (..., bands, L) of MDCT spectrograms (..., bins, L): log energies, normalised to training songs.

    `stem_rms` is the active RMS of the stems, that of the corpus if None: a sketch does not depend on it.
    """
    if stem_rms not in (None, STEM_RMS):
        coefficients = coefficients * (STEM_RMS / stem_rms)
    energy = pseudo_energy(coefficients) / 2
    parts = [part.unflatten(-2, (bins // size, size)).mean(-2)
             for (bins, size), part in zip(groups, energy.split([bins for bins, _ in groups], -2), strict=True)]
    return ((torch.cat(parts, -2) + FLOOR).log10() - MIDDLE) / SPREAD


def spread(drawn: Tensor, groups: tuple[tuple[int, int], ...] = GROUPS) -> Tensor:
    """A sketch (..., bands, L) at the resolution of MDCT spectrograms, (..., bins, L), each band's value repeated."""
    parts = drawn.split([bins // size for bins, size in groups], -2)
    return torch.cat([part.repeat_interleave(size, -2) for (_, size), part in zip(groups, parts, strict=True)], -2)


class Sketching(Framed):
    """A front end from a waveform to the sketch of its MDCT spectrogram. It has no inverse."""

    def __init__(self, bins: int, groups: tuple[tuple[int, int], ...] = GROUPS,
                 stem_rms: float | None = STEM_RMS):
        self.mdct, self.groups, self.stem_rms = MDCT(bins), groups, stem_rms
        self.hop, self.rows = bins, bands(groups)

    def forward(self, wave: Tensor) -> Tensor:
        """(..., T) -> (..., bands, T / bins). Raises InputError if T is no positive multiple of `bins`."""
        return sketch(self.mdct.forward(wave), self.groups, self.stem_rms)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """There is no inverse, unlike in other front ends.

        Raises:
            InputError: always.
        """
        raise InputError("a sketch has no sound: a model that decodes sketches generates sound from it")
