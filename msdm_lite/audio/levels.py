"""RMS levels and loudness of stems: active RMS, integrated loudness, and gains that do not clip.

Chapter: `book/12-longer-and-stranger.ipynb`; data card: `data/README.md`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from msdm_lite.audio import faults
from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.utils.imports import library

STEM_RMS = 0.06  # active RMS of every stem of the corpus, so that no stem masks another
MIXTURE_RMS = 2 * STEM_RMS  # active RMS of a mixture of four of them, which are not correlated


def mixture_rms(wave: Tensor, window: int) -> float:
    """`repaired_rms` of a sound (T,) without its offset and its clicks (`faults.repaired`)."""
    return repaired_rms(faults.repaired(wave)[0], window)


def repaired_rms(wave: Tensor, window: int) -> float:
    """Root mean square of (T,) over the windows of `window` samples within 40 dB of the loudest one; 0 for silence.

    Where soft windows would halve it, such as minutes of noise before the music, those within 20 dB of the loudest
    count alone.
    """
    padded = F.pad(wave, (0, -len(wave) % window)).reshape(-1, window)
    power = torch.linalg.vector_norm(padded, dim=1, dtype=torch.float64).square()
    power /= torch.full((len(padded),), window).index_fill_(
        0, torch.tensor([len(padded) - 1]), (len(wave) - 1) % window + 1)
    rms, loud = (float(power[power >= share * power.max()].mean().sqrt()) for share in (1e-4, 1e-2))
    return loud if loud > 2 * rms else rms


INAUDIBLE = 3e-4  # active RMS below which a stem is set to zero; a gain would make 16-bit noise audible
STEM_LUFS = -25.0  # the alternative to STEM_RMS, in integrated loudness


def active_rms(wave: np.ndarray, window: int = SAMPLE_RATE // 4) -> float:
    """Root mean square of a stem (T,) over its active quarter-seconds: those within 40 dB of its loudest one.

    So pauses do not lower it. It is zero for a silent stem.
    """
    frames = wave[: len(wave) // window * window].reshape(-1, window)
    power = np.square(frames, dtype=np.float64).mean(1) if len(frames) else np.zeros(1)
    loud = power > 1e-4 * power.max()
    return float(np.sqrt(power[loud].mean())) if loud.any() else 0.0


def integrated_loudness(wave: np.ndarray) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, by `pyloudnorm`) of a stem (T,) at 22 050 Hz; -inf if silent."""
    meter = library("pyloudnorm").Meter(SAMPLE_RATE)
    if len(wave) < meter.block_size * SAMPLE_RATE or not wave.any():
        return float("-inf")
    with np.errstate(divide="ignore"):  # all blocks may be below the gate
        return float(meter.integrated_loudness(wave.astype(np.float64)))


def peak_safe(stems: np.ndarray, gains: np.ndarray, peak: float = 0.99) -> np.ndarray:
    """The gains (S,), reduced by a common factor if the mixture or a stem of (S, T) would exceed `peak` with them."""
    levelled = stems * gains.astype(np.float32)[:, None]
    highest = max(np.abs(levelled).max(), np.abs(levelled.sum(0)).max())
    return gains * min(1.0, peak / highest) if highest > 0 else gains


def loudness_gains(stems: np.ndarray, target: float = STEM_LUFS) -> np.ndarray:
    """Gains (S,) that give all stems one integrated loudness (LUFS), as in Slakh2100, then `peak_safe`; 0 if silent."""
    measured = np.array([integrated_loudness(stem) for stem in stems])
    gains = np.zeros(len(stems))
    gains[np.isfinite(measured)] = 10 ** ((target - measured[np.isfinite(measured)]) / 20)
    return peak_safe(stems, gains)


def equal_rms(stems: np.ndarray, rms: float = STEM_RMS) -> np.ndarray:
    """Stems (S, T) scaled to the same active RMS, then `peak_safe`; stems below `INAUDIBLE` become zero."""
    gains = np.array([rms / r if (r := active_rms(stem)) > INAUDIBLE else 0.0 for stem in stems])
    return stems * peak_safe(stems, gains).astype(np.float32)[:, None]
