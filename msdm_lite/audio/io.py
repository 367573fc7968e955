"""Reading and writing of sound files. Errors have one line, and no partial files are left behind.

Audio is float32; a stem is (T,), a band is (4, T) in the order of `STEMS`. The mixture is the sum of the stems.
Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import contextlib
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from msdm_lite.audio import faults
from msdm_lite.audio.decode import decode
from msdm_lite.audio.decode import reason_of as _reason
from msdm_lite.errors import InputError
from msdm_lite.utils import files
from msdm_lite.utils.paths import expanded

LOG = logging.getLogger("msdm_lite")


STEMS = ("bass", "drums", "guitar", "piano")
MIX = "mix"  # the only "stem" of a model of the mixture
SAMPLE_RATE = 22050
SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS"}  # of the files that are written


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
    path = expanded(path)
    sound = decode(path)
    for note in sound.notes:
        LOG.warning("%s: %s", path, note)
    samples, rate = sound.samples, sound.sample_rate
    if samples.shape[1] == 0:
        raise InputError(f"{path} holds no samples")
    low, high = samples.aminmax()  # needs no second copy of a long file, unlike isfinite()
    if not (low.isfinite() and high.isfinite()):
        raise InputError(f"{path} has samples that are NaN or infinite")
    if mono and len(samples) > 2:
        LOG.warning("%s: %d channels are mixed down to one", path, len(samples))
    if low == high == 0:
        LOG.warning("%s is silent", path)
    elif (share := faults.clipped(samples)) and rate != sample_rate:  # resampled, it no longer shows
        LOG.warning("%s: %s", path, faults.about_clipping(share))
    if mono:
        mixed = samples.T.mean(1)
        if lost := faults.cancelled(samples, mixed):
            LOG.warning("%s: %s", path, faults.about_sides(lost))
        samples = mixed
    samples = resample(samples if mono else samples.contiguous(), rate, sample_rate)
    if samples.shape[-1] == 0:
        raise InputError(f"{path} holds no samples at {sample_rate} Hz: it is shorter than half of one")
    return samples


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


def save(path: str | Path, waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> Path:
    """Write (T,) or (C, T) as .wav (32-bit float, does not clip), .flac (24 bit) or .ogg; returns the path.

    If it fails, no file is written.

    Raises:
        InputError: the path cannot be written to, has another ending, or samples are not finite or would clip.
    """
    return save_all({Path(path): waveform}, sample_rate)[0]


def save_stems(folder: str | Path, stems: Tensor, sample_rate: int = SAMPLE_RATE, names: Sequence[str] = STEMS
               ) -> list[Path]:
    """Write (S, T) or (S, 2, T) into a folder, one .wav file per stem, all files or none. Returns their paths.

    Raises:
        InputError: as `save`, or the names do not fit the stems.
    """
    if stems.ndim not in (2, 3) or len(set(names)) != len(names) or len(names) != len(stems):
        raise InputError(f"the names {', '.join(names)} do not fit stems of shape {tuple(stems.shape)}")
    folder = files.writable_folder(folder)
    return save_all({folder / f"{name}.wav": stem for name, stem in zip(names, stems, strict=True)}, sample_rate)


def save_all(waves: Mapping[Path, Tensor], sample_rate: int = SAMPLE_RATE) -> list[Path]:
    """Write several files, all or none: first under scratch names, which are renamed when all are written.

    Raises:
        InputError: as `save`, for any of the files; then none is written.
    """
    for path, wave in waves.items():
        _can_be_saved(path, wave)
    scratch = {path: path.with_name(f".{uuid.uuid4().hex}.part{path.suffix}") for path in waves}
    try:
        for path, wave in waves.items():
            _write(scratch[path], wave, sample_rate)
        for path, part in scratch.items():
            part.replace(path)
    except soundfile.LibsndfileError as problem:
        raise InputError(f"{path} cannot be written ({_reason(problem)})") from None
    except OSError as problem:
        raise InputError(f"{path} cannot be written ({problem.strerror})") from None
    finally:  # also on Ctrl-C
        for part in scratch.values():
            with contextlib.suppress(OSError):
                part.unlink()
    return list(waves)


def _can_be_saved(path: Path, wave: Tensor) -> None:
    if path.suffix.lower() not in SUBTYPES:
        raise InputError(f"{path}: sound is written as .wav, .flac or .ogg")
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{path} is there already and is not a file; choose another name")
    if wave.ndim not in (1, 2):
        raise InputError(f"{path}: sound is (time,) or (channels, time), not {tuple(wave.shape)}")
    if not wave.isfinite().all():
        raise InputError(f"{path}: samples that are NaN or infinite are not written")
    if path.suffix.lower() != ".wav" and wave.numel() and wave.abs().max() > 1:
        raise InputError(f"{path}: samples above 1 would clip; write .wav, or turn it down")


def _write(path: Path, wave: Tensor, sample_rate: int) -> None:
    kind = path.suffix.lower()
    samples = torch.atleast_2d(wave.detach().cpu().float()).T.numpy()  # (T, C)
    path.touch()  # the error of the system gives the reason; that of libsndfile does not
    with soundfile.SoundFile(path, "w", sample_rate, samples.shape[1], SUBTYPES[kind]) as file:
        for start in range(0, len(samples), 16384):  # libsndfile crashes on long writes of Vorbis
            file.write(samples[start:start + 16384])
    if kind == ".wav":  # libsndfile writes the time into the PEAK chunk; the same sound should give the same bytes
        with path.open("r+b") as file:
            peak = file.read(128).find(b"PEAK")
            if peak > 0:
                file.seek(peak + 12)
                file.write(bytes(4))
