"""Reading and writing of sound files. Errors have one line, and no partial files are left behind.

Audio is float32; a stem is (T,), a band is (4, T) in the order of `STEMS`. The mixture is the sum of the stems.
Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import logging
import os
import re
import stat
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from msdm_lite.audio.encode import save as save
from msdm_lite.audio.encode import save_all as save_all
from msdm_lite.audio.encode import save_stems as save_stems
from msdm_lite.audio.stems import MIX as MIX
from msdm_lite.audio.stems import SAMPLE_RATE as SAMPLE_RATE
from msdm_lite.audio.stems import STEMS as STEMS
from msdm_lite.errors import InputError

LOG = logging.getLogger("msdm_lite")


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
