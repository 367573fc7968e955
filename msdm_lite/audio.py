"""Sound files in and out. Whatever is wrong with a file is said in one line, and nothing half-written is left behind.

Audio is float32; one stem is (T,), a band (4, T) in the order of `STEMS`. The mixture is the plain sum of the stems.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from msdm_lite.errors import InputError

STEMS = ("bass", "drums", "guitar", "piano")
SAMPLE_RATE = 22050
LOG = logging.getLogger("msdm_lite")


def load(path: str | Path, sample_rate: int = SAMPLE_RATE, mono: bool = True) -> Tensor:
    """A sound file as float32 samples: (T,), or (C, T) with its channels if not `mono`.

    Reads wav, flac, ogg, mp3 and whatever else libsndfile knows, at any rate. Channels are mixed down by their mean;
    more than two, and silence, are said through the logger "msdm_lite".

    Raises:
        InputError: missing, a folder, empty, no sound file, cut short, without samples, with NaN or infinity, unreadable.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a sound file in it")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
        with soundfile.SoundFile(path) as file:
            promised, rate, kind = file.frames, file.samplerate, file.format
            samples = file.read(dtype="float32", always_2d=True)  # (T, C)
    except soundfile.LibsndfileError as problem:
        raise InputError(f"{path} cannot be read as a sound file ({problem.error_string.strip()})") from None
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror})") from None
    if promised == 0 or len(samples) == 0:
        raise InputError(f"{path} holds no samples")
    if kind == "MP3" and len(samples) < promised:  # the length of an mp3 may be its decoder's estimate
        LOG.warning("%s ends %.1f s before the length it gives", path, (promised - len(samples)) / rate)
    elif len(samples) < promised or _cut_short(path):
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    if not np.isfinite(samples).all():
        raise InputError(f"{path} has samples that are NaN or infinite")
    if mono and samples.shape[1] > 2:
        LOG.warning("%s: %d channels are mixed down to one", path, samples.shape[1])
    if not samples.any():
        LOG.warning("%s is silent", path)
    wave = torch.from_numpy(samples.T.copy())  # (C, T)
    return resample(wave.mean(0) if mono else wave, rate, sample_rate)


def _cut_short(path: Path) -> bool:
    """Does a wav file's data chunk promise more bytes than the file has? libsndfile reads what is there and is silent."""
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                left = path.stat().st_size - file.tell()
                return size > left and size < 0xFFFFFF00  # streams write 2**32 - 1 or so: length not known
            file.seek(size + size % 2, os.SEEK_CUR)
    return False


def resample(wave: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """(..., T) at one rate to (..., round(T * to / from)) at another; band-limited (soxr, high quality)."""
    if from_rate == to_rate:
        return wave
    length = max(1, round(wave.shape[-1] * to_rate / from_rate))
    flat = wave.reshape(-1, wave.shape[-1]).T.contiguous().numpy()  # (T, channels)
    out = torch.from_numpy(np.ascontiguousarray(soxr.resample(flat, from_rate, to_rate).T)).to(wave.dtype)
    out = torch.nn.functional.pad(out, (0, max(0, length - out.shape[-1])))[:, :length]
    return out.reshape(*wave.shape[:-1], length)


def mixture(stems: Tensor) -> Tensor:
    """(..., S, T) -> (..., T): the plain sum."""
    return stems.sum(-2)


def writable_folder(folder: str | Path) -> Path:
    """The folder, made if need be, and proven to take files, so that long work does not end in a refusal.

    Raises:
        InputError: it cannot be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise InputError(f"{folder} is a file, not a folder") from None
    except OSError as problem:
        raise InputError(f"{folder} cannot be written to ({problem.strerror})") from None
    return folder


@contextlib.contextmanager
def _replacing(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Scratch names beside the wanted ones; they take the wanted names together when all is written, else vanish."""
    scratch = [path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}") for path in paths]
    try:
        yield scratch
        for part, path in zip(scratch, paths, strict=True):
            part.replace(path)
    finally:
        for part in scratch:
            part.unlink(missing_ok=True)


def _write(path: Path, wave: Tensor, sample_rate: int) -> None:
    kind = path.suffix.lower()
    if kind not in (".wav", ".flac", ".ogg"):
        raise InputError(f"{path}: sound is written as .wav, .flac or .ogg")
    samples = wave.detach().cpu().float().numpy()
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: samples that are NaN or infinite are not written")
    if kind != ".wav" and np.abs(samples).max(initial=0) > 1:
        raise InputError(f"{path}: samples above 1 would clip; write .wav, or turn it down")
    subtype = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS"}[kind]
    soundfile.write(path, samples.T, sample_rate, subtype=subtype)


def save(path: str | Path, wave: Tensor, sample_rate: int = SAMPLE_RATE) -> Path:
    """Write (T,) or (C, T) as .wav (32-bit float: nothing clips), .flac (24 bit) or .ogg; whole or not at all.

    Raises:
        InputError: a place that cannot be written to, another kind of file, samples that are not finite or would clip.
    """
    return save_all({Path(path): wave}, sample_rate)[0]


def save_stems(folder: str | Path, stems: Tensor, sample_rate: int = SAMPLE_RATE, names: Sequence[str] = STEMS,
               suffix: str = ".wav") -> list[Path]:
    """Write (S, T) as one file a stem into a folder: all of them or none. Returns their paths.

    Raises:
        InputError: as `save`, or names that do not fit the stems.
    """
    if stems.ndim != 2 or len(names) != len(stems):
        raise InputError(f"{len(names)} names do not fit stems of shape {tuple(stems.shape)}")
    folder = writable_folder(folder)
    return save_all({folder / f"{name}{suffix}": stem for name, stem in zip(names, stems, strict=True)}, sample_rate)


def save_all(waves: dict[Path, Tensor], sample_rate: int) -> list[Path]:
    """Write several files, all or none."""
    paths = list(waves)
    try:
        with _replacing(paths) as scratch:
            for part, wave in zip(scratch, waves.values(), strict=True):
                _write(part, wave, sample_rate)
    except soundfile.LibsndfileError as problem:
        raise InputError(f"{paths[0].parent} cannot be written to ({problem.error_string.strip()})") from None
    except OSError as problem:
        raise InputError(f"{paths[0].parent} cannot be written to ({problem.strerror})") from None
    return paths
