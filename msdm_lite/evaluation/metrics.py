"""Separation metrics: SI-SDR and its improvement, windowed scores of whole songs, and their intervals.

Windowed scores cut a song into windows of four seconds, one every two seconds, and leave out windows in which at most
one stem is active. In the published score (`published_improvements`) silent stems count too; for a silent target a
quiet estimate improves on the mixture by tens of decibels. The last window of a song may be shorter, and all windows of
all songs have one mean (`pooled`). Our scores (`windowed_improvements`) take whole windows alone and the mean of each
song first; one of them leaves silent stems out. Source: the code of Mariani et al. (arXiv 2302.02257),
evaluation/evaluate_separation.py. Chapters: `book/01-sources-and-context.ipynb`, `book/10-measuring.ipynb`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.errors import InputError


def si_sdr(estimate: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis: (..., T), (..., T) -> (...).

    The signal is the projection of the estimate on the target; the rest of the estimate is distortion. No mean is
    removed, as in the paper's code. `eps` keeps the ratio finite. Signals whose energy is below 1 are amplified first,
    each by a power of two, so that `eps` is small beside them. Source: Le Roux et al., ICASSP 2019.

    Raises:
        InputError: the shapes differ.
    """
    if estimate.shape != target.shape:
        raise InputError(f"estimate and target differ in shape: {tuple(estimate.shape)}, {tuple(target.shape)}")
    amplified = _amplified(target)
    # A silent target has no scale: the estimate stays as loud as it is
    return _ratio(torch.where(target.any(-1, keepdim=True), _amplified(estimate), estimate), amplified, eps)


def _energy(signal: Tensor) -> Tensor:
    """Sum of squares over the last axis: (..., T) -> (..., 1)."""
    return signal.square().sum(-1, keepdim=True)


def _amplified(signal: Tensor) -> Tensor:
    """A signal of energy between 0 and 1, times the power of two that makes it 1 to 4; others as they are.

    A power of two changes no digit. The peak comes first, so that squares do not underflow.
    """
    peak = signal.abs().amax(-1, keepdim=True)
    soft = (peak > 0) & (_energy(signal) < 1)
    first = torch.where(soft, signal * torch.exp2(-torch.floor(torch.log2(peak)).clamp(min=-126)), signal)
    energy = _energy(first)
    return torch.where(soft, first * torch.exp2(-torch.floor(torch.log2(energy) / 2).clamp(min=-126)), first)


def _ratio(estimate: Tensor, target: Tensor, eps: float) -> Tensor:
    """SI-SDR in dB as the paper's code computes it: of signals with energies near `eps` it is too low."""
    scale = ((estimate * target).sum(-1, keepdim=True) + eps) / (target.square().sum(-1, keepdim=True) + eps)
    signal = (scale * target).square().sum(-1)
    distortion = (estimate - scale * target).square().sum(-1)
    return 10 * torch.log10((signal + eps) / (distortion + eps))


def si_sdr_improvement(estimates: Tensor, targets: Tensor, silent_db: float = -60.0) -> Tensor:
    """SI-SDR improvement of separated stems over the mixture, in dB: (..., S, T) twice -> (..., S).

    A target `-silent_db` dB or more below the mixture counts as silent, and its value is NaN.
    """
    mixture = targets.sum(-2, keepdim=True).expand_as(targets)
    gain = si_sdr(estimates, targets) - si_sdr(mixture, targets)
    quiet = targets.square().sum(-1) <= 10 ** (silent_db / 10) * mixture.square().sum(-1)
    return gain.masked_fill(quiet, torch.nan)


def bootstrap(values, confidence: float = 0.95, draws: int = 10000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of values (one per song, NaN is skipped) and its percentile bootstrap interval: (mean, low, high).

    For few values the interval is too narrow: of normal values, intervals of 95 % from 8 of them contain the true mean
    in 88 % of all cases, from 30 of them in 94 % (measured by the tests of this module).

    Raises:
        InputError: there are fewer than 8 values, too few for a reliable interval; or one is infinite.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if infinite := int(np.isinf(values).sum()):
        raise InputError(f"{infinite} of {len(values)} values are infinite: they have no mean")
    if len(values) < 8:
        raise InputError(f"an interval needs at least 8 values, not {len(values)}")
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (draws, len(values))).mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values.mean()), float(low), float(high)


def interval(values) -> dict:
    """Mean, interval (low, high) and number n of values, NaN left out; the interval is None for fewer than eight.

    Infinite values, which have no mean, are left out too; then the result says how many as `infinite`.
    """
    values = np.asarray(values, dtype=float)
    infinite = int(np.isinf(values).sum())
    values = values[np.isfinite(values)]
    mean, low, high = bootstrap(values) if len(values) >= 8 else (
        float(values.mean()) if len(values) else None, None, None)
    return {"mean": mean, "low": low, "high": high, "n": len(values), **({"infinite": infinite} if infinite else {})}


SCORING_WINDOW, SCORING_HOP = 4.0, 2.0  # seconds
PUBLISHED_EPS = 1e-8  # of the published score, in which it decides what a stem that hardly sounds counts
SILENT = 1.5e-5  # threshold of the norm over the number of samples: the published test, which depends on the length


def scoring_windows(stems: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Windows of 4 s, one every 2 s: (S, T) -> (W, S, window). A shorter song is one window."""
    size, hop = round(SCORING_WINDOW * sample_rate), round(SCORING_HOP * sample_rate)
    if stems.shape[-1] < size:
        return stems[None]
    return stems.unfold(-1, size, hop).movedim(1, 0)


def active_stems(stems: Tensor) -> Tensor:
    """Which stems (..., S, T) are active by the published test: (..., S)."""
    return stems.norm(dim=-1) / stems.shape[-1] >= SILENT


def pooled(songs: Sequence[Sequence[float] | np.ndarray], confidence: float = 0.95, draws: int = 10000, seed: int = 0
           ) -> dict:
    """Mean over all windows of all songs; its interval is a bootstrap over songs, each of which brings all its windows.

    Args:
        songs: the values of each song's windows, (W,) of any W; songs without a window are left out.

    Returns:
        A dictionary of mean, low, high, n (songs) and windows; low and high are None for fewer than eight songs.
    """
    kept = [np.asarray(values, float) for values in songs if len(values)]
    sums, counts = np.array([values.sum() for values in kept]), np.array([len(values) for values in kept])
    low = high = None
    if len(kept) >= 8:
        drawn = np.random.default_rng(seed).choice(len(kept), (draws, len(kept)))
        means = sums[drawn].sum(1) / counts[drawn].sum(1)
        low, high = map(float, np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return {"mean": float(sums.sum() / counts.sum()) if kept else None, "low": low, "high": high, "n": len(kept),
            "windows": int(counts.sum())}


def published_improvements(estimates: Tensor, targets: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """SI-SDR improvement (dB) as the paper's code scores a song, in windows with two or more active stems: (W, S).

    Silent stems count. What is left at the end is a window of its own if it is longer than the part that two windows
    share, 2 s; so a sound of 2 s or less has none. What was cut off with the last partial segment is not in the
    arguments. Source: evaluation/evaluate_separation.py of the paper's code.

    Raises:
        InputError: the shapes (S, T) differ.
    """
    require_shape(estimates, targets)
    size, hop, length = int(SCORING_WINDOW * sample_rate), int(SCORING_HOP * sample_rate), targets.shape[-1]
    kept = []
    for start in range(0, length - (size - hop), hop):
        found, true = (stems[:, start : start + size] for stems in (estimates, targets))
        if active_stems(true).sum() > 1:
            kept.append(_ratio(found, true, PUBLISHED_EPS) - _ratio(true.sum(0).expand_as(true), true, PUBLISHED_EPS))
    return torch.stack(kept) if kept else torch.empty(0, len(targets))


def require_shape(estimates: Tensor, targets: Tensor) -> None:
    """Check that estimates and targets have one shape.

    Raises:
        InputError: they differ.
    """
    if estimates.shape != targets.shape:
        raise InputError(f"estimates and targets differ in shape: {tuple(estimates.shape)}, {tuple(targets.shape)}")


def windowed_improvements(estimates: Tensor, targets: Tensor, sample_rate: int = SAMPLE_RATE) -> tuple[Tensor, Tensor]:
    """SI-SDR improvement (dB) in windows with two or more active stems: of all stems, (W, S), and of active ones only.

    The second result is that of `si_sdr`, with NaN where the target is silent. The two differ for soft signals, whose
    published score depends on their level.

    Raises:
        InputError: the shapes (S, T) differ.
    """
    require_shape(estimates, targets)
    found, true = scoring_windows(estimates, sample_rate), scoring_windows(targets, sample_rate)
    playing = active_stems(true)  # (W, S)
    kept = playing.sum(-1) > 1
    found, true, playing = found[kept], true[kept], playing[kept]
    mixture = true.sum(1, keepdim=True).expand_as(true)
    every = _ratio(found, true, PUBLISHED_EPS) - _ratio(mixture, true, PUBLISHED_EPS)
    return every, (si_sdr(found, true) - si_sdr(mixture, true)).masked_fill(~playing, torch.nan)
