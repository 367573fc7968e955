"""Measures of a band: audible stems, regularity of the beat, clarity of pitch, and agreement between stems.

They do not measure taste. Each is high for music and low for noise, and is compared with the same measure on real
bands. Agreement between stems is compared with the agreement of mismatched stems, those of different songs. Features by
librosa. Chapter: `book/01-sources-and-context.ipynb`.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.audio.levels import STEM_RMS
from msdm_lite.errors import InputError
from msdm_lite.utils.imports import library

UNPITCHED = ("drums", "percussion")  # stems of any other name are taken to have pitch


def audible(stems: Tensor, floor_db: float = -30.0, share: float = 0.25, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Which stems (..., S, T) are audible, (..., S): in a quarter of all half-seconds their RMS is above -30 dB.

    The reference of 0 dB is `STEM_RMS`. `share` is the share of half-seconds, `floor_db` the threshold in dB.
    """
    size = sample_rate // 2
    size = max(1, min(size, stems.shape[-1]))  # a sound shorter than half a second is one block
    blocks = stems[..., : stems.shape[-1] // size * size].unfold(-1, size, size)
    loud = blocks.square().mean(-1).sqrt() > 10 ** (floor_db / 20) * STEM_RMS
    return loud.float().mean(-1) >= share


def _onsets(wave: Tensor, sample_rate: int) -> np.ndarray:
    """Onset strength at each frame of 512 samples, minus its mean; zeros for a sound that does not change."""
    onset = library("librosa.onset")
    strength = onset.onset_strength(y=wave.double().numpy(), sr=sample_rate, hop_length=512)
    return strength - strength.mean()


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors; NaN if one is zero."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 1e-9 else float("nan")


def beat_salience(wave: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Regularity of the onsets of (T,): the highest autocorrelation of their strength at lags of 0.25 to 1.5 s.

    It is 1 for perfectly regular onsets and near 0 without a beat. It is NaN if there are no onsets or no such lags.
    """
    onsets = _onsets(wave, sample_rate)
    lags = range(int(0.25 * sample_rate / 512), min(int(1.5 * sample_rate / 512), len(onsets) // 2) + 1)
    if not lags or not np.any(onsets):
        return float("nan")
    return max(_cosine(onsets[lag:], onsets[:-lag]) for lag in lags)


def pitch_salience(wave: Tensor, sample_rate: int = SAMPLE_RATE, lowest: float = 40.0,
                   highest: float = 1000.0) -> float:
    """Periodicity of (T,): the highest normalised autocorrelation of a frame, median over the frames that sound.

    Lags are those of pitches from `lowest` to `highest` Hz. It is 1 for a steady tone, near 0.1 for white noise, and
    NaN for silence.

    Raises:
        InputError: the sound is shorter than a frame of 4096 samples.
    """
    size = 4096
    if wave.shape[-1] < size:
        raise InputError(f"pitch is looked for in {size} samples or more, not {wave.shape[-1]}")
    frames = wave.double().unfold(-1, size, size // 2)  # (L, size)
    energy = frames.square().mean(-1)
    frames = frames[energy > max(1e-4 * energy.max().item(), 1e-12)]
    if not len(frames):
        return float("nan")
    frames = frames - frames.mean(-1, keepdim=True)
    spectrum = torch.fft.rfft(frames, 2 * size).abs().square()
    products = torch.fft.irfft(spectrum)[:, :size]  # sum of x[t] x[t + lag]
    power = torch.nn.functional.pad(frames.square().cumsum(-1), (1, 0))  # energy before each sample
    lag = torch.arange(int(sample_rate / highest), int(sample_rate / lowest) + 1)
    first, second = power[:, size - lag], power[:, -1:] - power[:, lag]
    likeness = products[:, lag] / (first * second).sqrt().clamp(min=1e-12)
    return likeness.amax(-1).median().item()


def onset_agreement(stems: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """Correlation of onset strengths of stems (S, T), mean over pairs of audible stems; NaN if there is no pair."""
    onsets = [_onsets(stem, sample_rate) for stem, there in zip(stems, audible(stems, sample_rate=sample_rate),
                                                                strict=True) if there]
    pairs = [_cosine(a, b) for a, b in combinations(onsets, 2)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")


def chroma_agreement(stems: Tensor, names: Sequence[str], sample_rate: int = SAMPLE_RATE) -> float:
    """Cosine similarity of the chroma of stems (S, T), mean over time and pairs of audible pitched stems; or NaN.

    Chroma is smoothed over a second, and its mean over the twelve pitch classes is subtracted, so that noise has no
    agreement. Without a pair of audible stems other than drums the result is NaN.
    """
    features, found = library("librosa.feature"), []
    for stem, name, there in zip(stems, names, audible(stems, sample_rate=sample_rate), strict=True):
        if name not in UNPITCHED and there:
            chroma = features.chroma_stft(y=stem.double().numpy(), sr=sample_rate, n_fft=4096, hop_length=2048,
                                          norm=None, tuning=0.0)
            width = max(1, round(sample_rate / 2048))
            smooth = np.apply_along_axis(np.convolve, 1, chroma, np.ones(width) / width, mode="same")
            found.append(smooth - smooth.mean(0))
    pairs = [_cosine(a[:, t], b[:, t]) for a, b in combinations(found, 2) for t in range(a.shape[1])]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")


def shuffled(bands: Tensor, seed: int = 0) -> Tensor:
    """Bands (n, S, T) of mismatched stems: the stems of one come from different bands, all different if n >= S.

    Raises:
        InputError: there is only one band.
    """
    n, S = bands.shape[:2]
    if n < 2:
        raise InputError("one band has no other to take stems from")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    places = torch.arange(n)
    return torch.stack([bands[order[(places + s) % n], s] for s in range(S)], 1)
