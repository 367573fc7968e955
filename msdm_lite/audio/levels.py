"""Levels of stems: active RMS, integrated loudness, and gains that do not clip.

Chapter: `book/12-longer-and-stranger.ipynb`; data card: `data/README.md`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.utils.imports import library

STEM_RMS = 0.06  # every stem of the corpus plays at this level, so that none hides behind another

MIXTURE_RMS = 2 * STEM_RMS  # active RMS of a mixture of four stems as the models know it


def mixture_rms(wave: Tensor, window: int) -> float:
    """Root mean square of (T,) over the windows within 40 dB of the loudest; 0 for silence."""
    padded = F.pad(wave, (0, -len(wave) % window)).reshape(-1, window)
    power = torch.linalg.vector_norm(padded, dim=1, dtype=torch.float64).square()
    power /= torch.full((len(padded),), window).index_fill_(
        0, torch.tensor([len(padded) - 1]), (len(wave) - 1) % window + 1)
    return float(power[power >= 1e-4 * power.max()].mean().sqrt())
INAUDIBLE = 3e-4  # active RMS of a stem that is as good as silent; levelled, it would be the noise of 16 bits
STEM_LUFS = -25.0  # the same as an option, by integrated loudness


def active_rms(wave: np.ndarray, window: int = SAMPLE_RATE // 4) -> float:
    """Root mean square over the quarter-seconds in which a stem sounds: those within 40 dB of its loudest one.

    A stem that rests for half the song is not louder for it. Zero for a silent stem.
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
    with np.errstate(divide="ignore"):  # below the gate all along
        return float(meter.integrated_loudness(wave.astype(np.float64)))


def peak_safe(stems: np.ndarray, gains: np.ndarray, peak: float = 0.99) -> np.ndarray:
    """The gains (S,), all turned down by one factor if the mix or a stem of (S, T) would clip with them."""
    levelled = stems * gains.astype(np.float32)[:, None]
    highest = max(np.abs(levelled).max(), np.abs(levelled.sum(0)).max())
    return gains * min(1.0, peak / highest) if highest > 0 else gains


def loudness_gains(stems: np.ndarray, target: float = STEM_LUFS) -> np.ndarray:
    """Gains (S,) that bring every sounding stem to one integrated loudness, as in Slakh2100, then peak-safe."""
    measured = np.array([integrated_loudness(stem) for stem in stems])
    gains = np.zeros(len(stems))
    gains[np.isfinite(measured)] = 10 ** ((target - measured[np.isfinite(measured)]) / 20)
    return peak_safe(stems, gains)


def equal_rms(stems: np.ndarray, rms: float = STEM_RMS) -> np.ndarray:
    """Every sounding stem at the same active RMS; the song is turned down if the mix or a stem would clip. (S, T)."""
    gains = np.array([rms / r if (r := active_rms(stem)) > INAUDIBLE else 0.0 for stem in stems])
    return stems * peak_safe(stems, gains).astype(np.float32)[:, None]
