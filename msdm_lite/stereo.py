"""Stems that stay where they stood between left and right. Chapter: `book/07-separation.ipynb`.

The models are mono. Two ways lead back to two channels; `compare` in `benchmarks/stereo.py` measures them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.song import check, from_picture, to_picture
from msdm_lite.transform import pseudo_energy


def spread(wave: Tensor, model: StemModel, separate: Callable[[Tensor], Tensor]) -> Tensor:
    """Stems (S, 2, T) of a stereo mixture (2, T), or of a mono one on both sides, with a separator (T,) -> (S, T)."""
    if wave.ndim == 1:
        wave = wave.expand(2, -1)
    if wave.ndim != 2 or wave.shape[0] not in (1, 2):
        raise InputError(f"a stereo mixture is (2, T), and not of shape {tuple(wave.shape)}")
    wave = wave.expand(2, -1)
    check(wave, model)
    return by_masks(wave, model, separate(wave.mean(0)))


def by_sides(wave: Tensor, separate: Callable[[Tensor], Tensor]) -> Tensor:
    """Mid and side are separated as if each were a mixture of its own: (2, T) -> (S, 2, T)."""
    mid, side = separate(wave.mean(0)), separate((wave[0] - wave[1]) / 2)
    return torch.stack([mid + side, mid - side], 1)


def by_channels(wave: Tensor, separate: Callable[[Tensor], Tensor]) -> Tensor:
    """Left and right are separated as if each were a mixture of its own: (2, T) -> (S, 2, T)."""
    return torch.stack([separate(channel) for channel in wave], 1)


def by_masks(wave: Tensor, model: StemModel, mono: Tensor) -> Tensor:
    """Stems mono (S, T) of the mid say which share of each coefficient is whose, left and right: -> (S, 2, T)."""
    T = wave.shape[-1]
    energy = pseudo_energy(to_picture(mono, model))  # (S, bins, L)
    shares = (energy + 1e-12) / (energy + 1e-12).sum(0)
    sides = to_picture(wave, model)  # (2, bins, L)
    return from_picture(shares[:, None] * sides, model, T)
