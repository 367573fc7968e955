"""Writing of sound files: wav, flac, ogg and mp3, several at once, all or none.

Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import soundfile
import torch
from torch import Tensor

from msdm_lite.audio.decode import TAGS, reason_of
from msdm_lite.audio.stems import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError
from msdm_lite.utils import files

# Encodings of libsndfile by ending and bits; the first of each ending is the one without a choice
ENCODINGS = {".wav": {"float": "FLOAT", "24": "PCM_24", "16": "PCM_16"}, ".flac": {"24": "PCM_24", "16": "PCM_16"},
             ".ogg": {"": "VORBIS"}, ".mp3": {"": "MPEG_LAYER_III"}}
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # of MPEG-1, 2 and 2.5


def encoding(suffix: str, bits: str | None = None, sample_rate: int = SAMPLE_RATE) -> str:
    """libsndfile's name of how samples are kept in a file of that ending.

    Args:
        suffix: .wav, .flac, .ogg or .mp3.
        bits: "16", "24" or "float"; None for float in wav and 24 in flac.
        sample_rate: in Hz.

    Raises:
        InputError: no such ending, bits that it does not have, or a rate that it does not have.
    """
    kinds = ENCODINGS.get(suffix.lower())
    if kinds is None:
        raise InputError(f"sound is written as {', '.join(ENCODINGS)}, not as {suffix or 'a file without an ending'}")
    if bits is not None and bits not in kinds:
        choice = f"has {' or '.join(kinds)} bits" if "" not in kinds else "has no choice of bits"
        raise InputError(f"{suffix} {choice}, not {bits!r}")
    if suffix.lower() == ".mp3" and sample_rate not in MP3_RATES:
        raise InputError(f"mp3 has no rate of {sample_rate} Hz: take 44100 or 48000, or wav or flac")
    if suffix.lower() == ".mp3" and "MP3" not in soundfile.available_formats():
        raise InputError("the libsndfile that is installed writes no mp3 (1.1 and later do): take flac")
    return next(iter(kinds.values())) if bits is None else kinds[bits]


def clips(suffix: str, bits: str | None = None) -> bool:
    """Whether samples above 1 are cut off in a file of that ending; in a wav of floats they are kept."""
    return encoding(suffix, bits) != "FLOAT"


def save(path: str | Path, waveform: Tensor, sample_rate: int = SAMPLE_RATE, bits: str | None = None,
         tags: Mapping[str, str] | None = None) -> Path:
    """Write (T,) or (C, T) as .wav, .flac, .ogg or .mp3; returns the path. If it fails, no file is written.

    Args:
        bits: "float" (wav only, does not clip), "24" or "16"; if None, float in wav and 24 in flac.
        tags: title, artist, album, date and comment; others are left out.

    Raises:
        InputError: the path cannot be written to, has another ending, or samples are not finite or would clip.
    """
    return save_all({Path(path): waveform}, sample_rate, bits, tags)[0]


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


def save_all(waves: Mapping[Path, Tensor], sample_rate: int = SAMPLE_RATE, bits: str | None = None,
             tags: Mapping[str, str] | None = None,
             ready: Callable[[Mapping[Path, Path]], None] | None = None) -> list[Path]:
    """Write several files, all or none: first under scratch names, which are renamed when all are on the disk.

    Args:
        ready: called before the renaming, with the scratch file of each path.

    Raises:
        InputError: as `save`, for any of the files; then none is written, and what was there is there again.
    """
    for path, wave in waves.items():
        _can_be_saved(path, wave, sample_rate, bits)
    scratch = {path: path.with_name(f".{uuid.uuid4().hex}.part{path.suffix}") for path in waves}
    try:
        for path, wave in waves.items():
            _write(scratch[path], wave, sample_rate, encoding(path.suffix, bits, sample_rate), tags or {})
        if ready:
            ready(scratch)
        replace_all(scratch)
    except soundfile.LibsndfileError as problem:
        raise InputError(f"{path} cannot be written ({reason_of(problem)})") from None
    except OSError as problem:
        raise InputError(f"{path} cannot be written ({problem.strerror})") from None
    finally:  # also on Ctrl-C
        _remove(scratch.values())
    return list(waves)


def replace_all(scratch: Mapping[Path, Path]) -> None:
    """Give each scratch file its name, all or none: if one cannot be renamed, those before it are taken back.

    Raises:
        InputError: the one that could not be renamed.
    """
    kept: dict[Path, Path] = {}  # second names of the files that are replaced
    done = []
    try:
        for path, part in scratch.items():
            if os.path.lexists(path):
                kept[path] = path.with_name(f".{uuid.uuid4().hex}.part{path.suffix}")
                _second_name(path, kept[path])
            part.replace(path)
            done.append(path)
    except BaseException as problem:
        for each in done:
            with contextlib.suppress(OSError):
                if each in kept:
                    kept[each].replace(each)
                else:
                    each.unlink()
        if isinstance(problem, OSError):
            raise InputError(f"{path} cannot be written ({problem.strerror})") from None
        raise
    finally:
        _remove(kept.values())


def _second_name(path: Path, other: Path) -> None:
    """A hard link, or a copy where the file system has no links."""
    try:
        os.link(path, other, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(path, other, follow_symlinks=False)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_scraps(folder: Path) -> None:
    """Remove the scratch files that a killed process left in a folder; call it only while the folder is locked."""
    _remove([file for file in folder.iterdir() if re.fullmatch(r"\.[0-9a-f]{32}\.part(\.\w+)?", file.name)])


def _can_be_saved(path: Path, wave: Tensor, sample_rate: int, bits: str | None) -> None:
    try:
        kind = encoding(path.suffix, bits, sample_rate)
    except InputError as problem:
        raise InputError(f"{path}: {problem}") from None
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{path} is there already and is not a file; choose another name")
    if wave.ndim not in (1, 2):
        raise InputError(f"{path}: sound is (time,) or (channels, time), not {tuple(wave.shape)}")
    if not wave.isfinite().all():
        raise InputError(f"{path}: samples that are NaN or infinite are not written")
    if kind != "FLOAT" and wave.numel() and wave.abs().max() > 1:
        raise InputError(f"{path}: samples above 1 would clip; write .wav of floats, or turn it down")


def _write(path: Path, wave: Tensor, sample_rate: int, kind: str, tags: Mapping[str, str]) -> None:
    samples = torch.atleast_2d(wave.detach().cpu()).T  # (T, C)
    path.touch()  # the error of the system gives the reason; that of libsndfile does not
    name = os.fsencode(path) if os.name == "posix" else str(path)  # a name need not be text
    with soundfile.SoundFile(name, "w", sample_rate, samples.shape[1], kind, format=_format(path)) as file:
        for tag in TAGS:  # before the sound: then wav has them in front of it
            if tags.get(tag):
                setattr(file, tag, tags[tag].encode("utf-8", "replace").decode("utf-8").replace("\0", " "))
        for start in range(0, len(samples), 16384):  # libsndfile crashes on long writes of Vorbis
            file.write(samples[start:start + 16384].float().numpy())
    with path.open("r+b") as raw:
        if kind == "FLOAT" and (peak := _chunk(raw, b"PEAK")):
            raw.seek(peak + 12)  # libsndfile writes the time there; the same sound should give the same bytes
            raw.write(bytes(4))
        raw.flush()
        os.fsync(raw.fileno())


def _format(path: Path) -> str:
    return path.suffix.lower().removeprefix(".").upper()


def _chunk(file: IO[bytes], name: bytes) -> int:
    """Where a chunk of a wav begins, or 0; it is looked for in front of the sound."""
    file.seek(12)
    while len(head := file.read(8)) == 8 and head[:4] != b"data":
        size = int.from_bytes(head[4:], "little")
        if head[:4] == name:
            return file.tell() - 8
        file.seek(size + size % 2, os.SEEK_CUR)
    return 0
