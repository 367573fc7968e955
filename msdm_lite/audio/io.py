"""Reading and writing of sound files. Errors have one line, and no partial files are left behind.

Audio is float32; a stem is (T,), a band is (4, T) in the order of `STEMS`. The mixture is the sum of the stems.
Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import contextlib
import logging
import os
import re
import stat
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.utils import files

LOG = logging.getLogger("msdm_lite")


STEMS = ("bass", "drums", "guitar", "piano")
MIX = "mix"  # the only "stem" of a model of the mixture
SAMPLE_RATE = 22050
SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS"}  # of the files that are written


def samples(source: str | Path | Tensor, sample_rate: int = SAMPLE_RATE, mono: bool = True) -> Tensor:
    """Sound on the CPU: a tensor unchanged, or the samples of a file. Arguments and errors are those of `load`."""
    return source.detach().cpu() if isinstance(source, Tensor) else load(source, sample_rate, mono)


def load(path: str | Path, sample_rate: int = SAMPLE_RATE, mono: bool = True) -> Tensor:
    """Read a sound file as float32 samples: (T,), or (C, T) with its channels if not `mono`.

    Reads wav, flac, ogg, mp3 and all other formats of libsndfile, at any rate; T is round(frames * sample_rate / rate
    of the file). Channels are mixed down by their mean. The logger "msdm_lite" warns of more than two channels and of
    silence.

    Raises:
        InputError: the file is missing, a folder, empty, no sound file, cut short, without samples, not allowed to be
            read, or has NaN or infinite samples.
    """
    path = Path(path)
    require_readable(path)
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as problem:  # TypeError: .raw, which has no header
        reason = "it has no header" if isinstance(problem, TypeError) else _reason(problem)
        raise InputError(f"{path} cannot be read as a sound file ({reason}); convert it to wav or flac") from None
    with file:
        promised, rate, kind = file.frames, file.samplerate, file.format
        cut = ogg_cut_short(path) if kind == "OGG" else _data_cut_short(file.extra_info)
        try:
            samples = torch.from_numpy(file.read(dtype="float32", always_2d=True))  # (T, C)
        except soundfile.LibsndfileError as problem:
            raise InputError(f"{path} is damaged or cut short ({_reason(problem)})") from None
        except (MemoryError, ValueError):  # a streamed flac does not state its length, and 2**63 - 1 is reported
            raise InputError(f"{path} does not say a length that fits in memory; convert it to wav first") from None
    missing = (promised - len(samples)) / rate  # seconds
    if kind == "MP3" and not _mp3_tells_length(path):  # then the length is an estimate of the decoder
        if missing > 0.1:
            LOG.warning("%s ends %.1f s before its estimated length", path, missing)
    elif cut or missing > (0.1 if kind == "MP3" else 0):  # mp3 encoders differ in the padding of the last frames
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    if len(samples) == 0:
        raise InputError(f"{path} holds no samples")
    low, high = samples.aminmax()  # needs no second copy of a long file, unlike isfinite()
    if not (low.isfinite() and high.isfinite()):
        raise InputError(f"{path} has samples that are NaN or infinite")
    if mono and samples.shape[1] > 2:
        LOG.warning("%s: %d channels are mixed down to one", path, samples.shape[1])
    if low == high == 0:
        LOG.warning("%s is silent", path)
    samples = samples.mean(1) if mono else samples.T.contiguous()  # (T,) or (C, T)
    samples = resample(samples, rate, sample_rate)
    if samples.shape[-1] == 0:
        raise InputError(f"{path} holds no samples at {sample_rate} Hz: it is shorter than half of one")
    return samples


def require_readable(path: Path) -> None:
    """Check that a path is a file that can be read; libsndfile itself only reports a "System error".

    Raises:
        InputError: the path is missing, a folder, no regular file, empty, or not allowed to be read.
    """
    try:
        mode = path.stat().st_mode
        empty = True
        if stat.S_ISREG(mode):  # opening a pipe would block
            with path.open("rb") as file:
                empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise InputError(f"{path}: no such file") from None
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror})") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; name a sound file in it")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a file; save the sound to one first")
    if empty:
        raise InputError(f"{path} is empty")


def _reason(problem: soundfile.LibsndfileError) -> str:
    text = " ".join(problem.error_string.split()).removeprefix("Error : ").rstrip(".")
    return "is the disk full?" if text == "System error" else text


def _data_cut_short(log: str) -> bool:
    """Whether the sizes in a wav, aiff, au, caf, w64 or rf64 header are larger than the file.

    libsndfile reads such files and reports the sizes only in its log: "data : 705600 (should be 352800)".
    """
    sizes = re.findall(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return any(int(held) < int(said) < 0x7FFFF000 for said, held in sizes)  # streams write this or more: size unknown


def ogg_cut_short(path: Path) -> bool:
    """Whether an ogg file lacks its last page, which has a flag. libsndfile reads such files without an error."""
    ended, size = False, path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(27)) == 27 and head[:4] == b"OggS":
            body = sum(file.read(head[26]))
            ended = bool(head[5] & 4) and file.tell() + body <= size
            file.seek(body, os.SEEK_CUR)
    return not ended


def _mp3_tells_length(path: Path) -> bool:
    """Whether the first frame, behind any ID3 tag, states the number of frames."""
    with path.open("rb") as file:
        tag = file.read(10)
        size = sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=False))
        file.seek(10 + size if tag[:3] == b"ID3" else 0)
        first = file.read(256)
    return b"Xing" in first or b"Info" in first


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
