"""Reading and writing of sound files. Errors have one line, and no partial files are left behind.

Audio is float32; a stem is (T,), a band is (4, T) in the order of `STEMS`. The mixture is the sum of the stems.
Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from msdm_lite.audio import faults
from msdm_lite.audio.decode import Sound, decode
from msdm_lite.audio.encode import save as save
from msdm_lite.audio.encode import save_all as save_all
from msdm_lite.audio.encode import save_stems as save_stems
from msdm_lite.audio.stems import MIX as MIX
from msdm_lite.audio.stems import SAMPLE_RATE as SAMPLE_RATE
from msdm_lite.audio.stems import STEMS as STEMS
from msdm_lite.errors import InputError
from msdm_lite.utils.paths import expanded

LOG = logging.getLogger("msdm_lite")


def samples(source: str | Path | Tensor | np.ndarray | Sequence, sample_rate: int = SAMPLE_RATE, mono: bool = True
            ) -> Tensor:
    """Sound as a tensor on the CPU: the samples of a file, or a tensor, array or list of samples at `sample_rate`.

    Floating-point tensors stay as they are, and floating-point arrays and lists become float32. Integers are divided by
    the full scale of their type: int16, int32 and uint8 as in WAV files; int64 and lists of integers as int16. An array
    (T, 2), as `soundfile.read` returns, becomes (2, T).

    Raises:
        InputError: as `load`, or the array holds no numbers.
    """
    if isinstance(source, str | os.PathLike):
        return load(source, sample_rate, mono)
    try:
        wave = source.detach().cpu() if isinstance(source, Tensor) else torch.from_numpy(_numbers(np.asarray(source)))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError("sound is a file, or numbers: a tensor, an array or a list of samples") from None
    if wave.is_complex() or wave.dtype == torch.bool:
        raise InputError(f"samples are real numbers, not {str(wave.dtype).removeprefix('torch.')}")
    if not wave.is_floating_point():
        wave = _full_scale(wave)
    if not isinstance(source, Tensor) and wave.ndim == 2 and wave.shape[1] <= 2 < wave.shape[0]:
        wave = wave.T.contiguous()
    return wave


def _numbers(array: np.ndarray) -> np.ndarray:
    """An array in native byte order, of a type that torch has, and not shared with the caller's."""
    kinds = {"f": np.dtype(np.float32), "u": np.dtype(np.uint8) if array.dtype == np.uint8 else np.dtype(np.int64),
             "i": array.dtype.newbyteorder("=")}
    return array.astype(kinds.get(array.dtype.kind, array.dtype))


def _full_scale(wave: Tensor) -> Tensor:
    """Integer samples as float32 of full scale 1."""
    if wave.dtype == torch.uint8:
        return (wave.float() - 128) / 128
    bits = {torch.int8: 7, torch.int32: 31}.get(wave.dtype, 15)
    return (wave.double() / 2**bits).float()


def load(path: str | Path, sample_rate: int = SAMPLE_RATE, mono: bool = True) -> Tensor:
    """Read a sound file as float32 samples: (T,), or (C, T) with its channels if not `mono`.

    Reads what `decode.decode` does, at any rate, to the end of what decodes; T is round(frames * sample_rate / rate of
    the file), and "~" in the path is the home folder. Channels are mixed down by their mean. The logger "msdm_lite"
    warns of a header that is wrong, of more than two channels, of sides that cancel, of clipping and of silence.

    Raises:
        InputError: the file is missing, a folder, empty, no sound file, without samples, not allowed to be read, or has
            NaN or infinite samples.
        MachineError: it needs ffmpeg, which is not installed.
    """
    sound = read(path)
    samples = sound.samples
    if sound.sample_rate != sample_rate and (share := faults.clipped(samples)):  # resampled, it no longer shows
        LOG.warning("%s: %s", path, faults.about_clipping(share))
    samples = mixed_down(samples, str(path)) if mono else samples.contiguous()
    samples = resample(samples, sound.sample_rate, sample_rate)
    if samples.shape[-1] == 0:
        raise InputError(f"{path} holds no samples at {sample_rate} Hz: it is shorter than half of one")
    return samples


def read(path: str | Path) -> Sound:
    """The sound of a file at its own rate, (C, T), with its tags. The logger warns of a wrong header and of silence.

    Raises:
        InputError: as `load`.
        MachineError: it needs ffmpeg, which is not installed.
    """
    path = expanded(path)
    sound = decode(path)
    for note in sound.notes:
        LOG.warning("%s: %s", path, note)
    if sound.samples.shape[1] == 0:
        raise InputError(f"{path} holds no samples")
    low, high = sound.samples.aminmax()  # needs no second copy of a long file, unlike isfinite()
    if not (low.isfinite() and high.isfinite()):
        raise InputError(f"{path} has samples that are NaN or infinite")
    if low == high == 0:
        LOG.warning("%s is silent", path)
    return sound


def mixed_down(samples: Tensor, name: str) -> Tensor:
    """The mean (T,) of channels (C, T); the logger warns of more than two, and of sides that cancel."""
    if len(samples) > 2:
        LOG.warning("%s: %d channels are mixed down to one", name, len(samples))
    mixed = samples.T.mean(1)
    if lost := faults.cancelled(samples, mixed):
        LOG.warning("%s: %s", name, faults.about_sides(lost))
    return mixed


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample (..., T) to (..., round(T * to_rate / from_rate)); band-limited (soxr, high quality), without gradient.

    Raises:
        InputError: a rate is not above zero.
    """
    if not (from_rate > 0 and to_rate > 0):
        raise InputError(f"sample rates must be above zero, not {from_rate} and {to_rate}")
    if from_rate == to_rate:
        return waveform
    length = round(waveform.shape[-1] * to_rate / from_rate)
    if waveform.numel() == 0 or length == 0:
        return waveform.new_zeros(*waveform.shape[:-1], length)
    columns = waveform.detach().cpu().reshape(-1, waveform.shape[-1]).T  # (T, channels)
    flat = columns.to(torch.float64 if waveform.dtype == torch.float64 else torch.float32).contiguous().numpy()
    out = torch.from_numpy(np.ascontiguousarray(soxr.resample(flat, from_rate, to_rate).T))
    out = torch.nn.functional.pad(out, (0, max(0, length - out.shape[-1])))[:, :length]
    return out.reshape(*waveform.shape[:-1], length).to(waveform).contiguous()
