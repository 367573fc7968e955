"""Whole songs, scored twice: as the paper's code does it, and over the stems that sound alone.

Both cut a song into windows of four seconds, one every two, and leave out windows in which at most one stem plays. They
differ in what a silent stem counts. The paper's code scores it like any other, and against silence a quiet estimate
improves on the mixture by tens of decibels; so the two figures part where stems rest. Source: the code of Mariani et
al. (arXiv 2302.02257). Chapter: `book/10-measuring.ipynb`.
"""

import torch
from torch import Tensor

from msdm_lite.audio import SAMPLE_RATE
from msdm_lite.errors import InputError
from msdm_lite.metrics import si_sdr

WINDOW, HOP = 4.0, 2.0  # seconds
SILENT = 1.5e-5  # of the Euclidean length over the number of samples: the published test, which depends on the length


def windows(stems: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """(S, T) -> (W, S, window): every two seconds four; a song shorter than that is one window."""
    size, hop = round(WINDOW * sample_rate), round(HOP * sample_rate)
    if stems.shape[-1] < size:
        return stems[None]
    return stems.unfold(-1, size, hop).movedim(1, 0)


def sounds(stems: Tensor) -> Tensor:
    """Which stems (..., S, T) the published test takes to play: (..., S)."""
    return stems.norm(dim=-1) / stems.shape[-1] >= SILENT


def improvements(estimates: Tensor, targets: Tensor, sample_rate: int = SAMPLE_RATE) -> tuple[Tensor, Tensor]:
    """SI-SDR improvement (dB) in windows in which two stems or more play: as published, (W, S), and of active ones.

    The second is the first with NaN where the target is silent.

    Raises:
        InputError: the shapes (S, T) differ.
    """
    if estimates.shape != targets.shape:
        raise InputError(f"estimates and targets differ in shape: {tuple(estimates.shape)}, {tuple(targets.shape)}")
    found, true = windows(estimates, sample_rate), windows(targets, sample_rate)
    playing = sounds(true)  # (W, S)
    kept = playing.sum(-1) > 1
    found, true, playing = found[kept], true[kept], playing[kept]
    mixture = true.sum(1, keepdim=True).expand_as(true)
    published = si_sdr(found, true) - si_sdr(mixture, true)
    return published, published.masked_fill(~playing, torch.nan)
