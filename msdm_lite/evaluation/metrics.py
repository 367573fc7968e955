"""Separation metrics: SI-SDR and its improvement, windowed scores of whole songs, and their intervals.

Windowed scores cut a song into windows of four seconds, one every two, and leave out windows in which at most one stem
sounds. There are two. As published, a silent stem counts like any other; against silence a quiet estimate improves on
the mixture by tens of decibels. Over active stems, silent ones are left out. Source: the code of Mariani et al. (arXiv
2302.02257). Chapters: `book/01-sources-and-context.ipynb`, `book/10-measuring.ipynb`.
"""

import numpy as np
import torch
from torch import Tensor

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.errors import InputError


def si_sdr(estimate: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis: (..., T), (..., T) -> (...).

    The target is scaled to the estimate's part along it; what is left over is distortion. No mean is removed, as in the
    paper's code. Le Roux et al., ICASSP 2019.

    Raises:
        InputError: the shapes differ.
    """
    if estimate.shape != target.shape:
        raise InputError(f"estimate and target differ in shape: {tuple(estimate.shape)}, {tuple(target.shape)}")
    scale = ((estimate * target).sum(-1, keepdim=True) + eps) / (target.square().sum(-1, keepdim=True) + eps)
    signal = (scale * target).square().sum(-1)
    distortion = (estimate - scale * target).square().sum(-1)
    return 10 * torch.log10((signal + eps) / (distortion + eps))


def si_sdr_improvement(estimates: Tensor, targets: Tensor, silent_db: float = -60.0) -> Tensor:
    """By how many dB separated stems are better than the mixture itself: (..., S, T) twice -> (..., S).

    A stem more than `-silent_db` dB below the mixture is not there to be found; its value is NaN and means skip it.
    """
    mixture = targets.sum(-2, keepdim=True).expand_as(targets)
    gain = si_sdr(estimates, targets) - si_sdr(mixture, targets)
    quiet = targets.square().sum(-1) <= 10 ** (silent_db / 10) * mixture.square().sum(-1)
    return gain.masked_fill(quiet, torch.nan)


def bootstrap(values, confidence: float = 0.95, draws: int = 10000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of values (one a song, NaN is skipped) and its percentile bootstrap interval: (mean, low, high).

    Raises:
        InputError: fewer than 8 values; an interval from so few would pretend to knowledge.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 8:
        raise InputError(f"an interval needs at least 8 values, not {len(values)}")
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (draws, len(values))).mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values.mean()), float(low), float(high)


def interval(values) -> dict:
    """Mean, interval (low, high) and number n of what was measured, NaN skipped; no interval of fewer than eight."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    mean, low, high = bootstrap(values) if len(values) >= 8 else (
        float(values.mean()) if len(values) else None, None, None)
    return {"mean": mean, "low": low, "high": high, "n": len(values)}

SCORING_WINDOW, SCORING_HOP = 4.0, 2.0  # seconds
SILENT = 1.5e-5  # of the Euclidean length over the number of samples: the published test, which depends on the length


def scoring_windows(stems: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """(S, T) -> (W, S, window): every two seconds four; a song shorter than that is one window."""
    size, hop = round(SCORING_WINDOW * sample_rate), round(SCORING_HOP * sample_rate)
    if stems.shape[-1] < size:
        return stems[None]
    return stems.unfold(-1, size, hop).movedim(1, 0)


def active_stems(stems: Tensor) -> Tensor:
    """Which stems (..., S, T) the published test takes to play: (..., S)."""
    return stems.norm(dim=-1) / stems.shape[-1] >= SILENT


def windowed_improvements(estimates: Tensor, targets: Tensor, sample_rate: int = SAMPLE_RATE) -> tuple[Tensor, Tensor]:
    """SI-SDR improvement (dB) in windows in which two stems or more play: as published, (W, S), and of active ones.

    The second is the first with NaN where the target is silent.

    Raises:
        InputError: the shapes (S, T) differ.
    """
    if estimates.shape != targets.shape:
        raise InputError(f"estimates and targets differ in shape: {tuple(estimates.shape)}, {tuple(targets.shape)}")
    found, true = scoring_windows(estimates, sample_rate), scoring_windows(targets, sample_rate)
    playing = active_stems(true)  # (W, S)
    kept = playing.sum(-1) > 1
    found, true, playing = found[kept], true[kept], playing[kept]
    mixture = true.sum(1, keepdim=True).expand_as(true)
    published = si_sdr(found, true) - si_sdr(mixture, true)
    return published, published.masked_fill(~playing, torch.nan)
