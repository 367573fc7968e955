"""Faults of recordings that spoil a separation: clipping, sides that cancel, an offset, clicks.

Each is measured on samples; the words are for the terminal. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import math

import torch
from torch import Tensor

CLIPPED = 1e-3  # share of samples from which clipping is said
CANCELLED = 10.0  # dB by which the mean of two sides may be softer than they are; 3 dB where they are independent


def clipped(wave: Tensor) -> float:
    """Share of samples (..., T) in runs of three or more at the highest value of their channel, 0 if below `CLIPPED`.

    A sound that is not clipped reaches its peak in single samples.
    """
    if wave.shape[-1] < 3 or not wave.numel():
        return 0.0
    found = 0
    for channel in wave.reshape(-1, wave.shape[-1]) if wave.is_contiguous() else wave:
        for limit, side in ((channel.max(), 1), (channel.min(), -1)):
            if side * limit <= 1e-3:
                continue
            top = side * channel >= 0.9999 * side * limit
            run = top[2:] & top[1:-1] & top[:-2]
            if not run.any():
                continue
            inside = torch.zeros_like(top)
            for shift in range(3):
                inside[shift : len(top) - 2 + shift] |= run
            found += int(inside.sum())
    share = found / wave.numel()
    return share if share >= CLIPPED else 0.0


def about_clipping(share: float) -> str:
    """One line for a share of clipped samples."""
    return f"{100 * share:.1f} % of the samples are clipped: the distortion lands in the stems"


def cancelled(sides: Tensor, mixed: Tensor) -> float:
    """The dB by which the mean (T,) of channels (C, T) is softer than they are; 0 if at most `CANCELLED`, or silent."""
    loud = float(torch.linalg.vector_norm(sides, dtype=torch.float64)) / math.sqrt(max(1, len(sides)))
    left = float(torch.linalg.vector_norm(mixed, dtype=torch.float64))
    if len(sides) < 2 or loud == 0:
        return 0.0
    lost = 20 * math.log10(loud / left) if left > 1e-9 * loud else 180.0
    return lost if lost > CANCELLED else 0.0


def about_sides(lost: float) -> str:
    """One line for sides that cancel."""
    less = f"{lost:.0f} dB softer than they are" if lost < 150 else "nothing"
    return f"its sides cancel in mono, and their mean is {less}: take the sides one by one (in stereo)"
