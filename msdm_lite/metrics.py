"""How well stems were separated, and how sure we are of it. Chapter: `book/01-sources-and-context.ipynb`."""

import numpy as np
import torch
from torch import Tensor

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
