"""Decoding of sound files: the length is what decodes, and not what a header says.

wav, flac, ogg, aiff and other formats are read by libsndfile, mp3 by miniaudio, and m4a, aac and the sound of videos by
ffmpeg where it is installed. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import contextlib
import hashlib
import io
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from msdm_lite.audio import containers, mp3
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import paths
from msdm_lite.utils.files import written_whole
from msdm_lite.utils.imports import library

LOG = logging.getLogger("msdm_lite")

TAGS = ("title", "artist", "album", "date", "comment")
BY_FFMPEG = (".m4a", ".aac", ".mp4", ".m4v", ".mov", ".mkv", ".mka", ".webm", ".avi", ".wma", ".wmv", ".3gp", ".amr",
             ".ac3", ".ape", ".wv", ".mpg", ".mpeg", ".ts", ".flv", ".ogv", ".m4b")  # endings
MAGIC = (b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75", b"FLV", b"\0\0\1\xba", b"#!AMR", b"wvpk", b"MAC ", b"\xff\xf1",
         b"\xff\xf9")  # first bytes of such files; mp4 and m4a have "ftyp" behind four others
LONGEST = 1 << 40  # samples; a streamed flac does not state its length, and 2**63 - 1 is reported


@dataclass(frozen=True)
class Sound:
    """What a sound file holds: samples (C, T) float32, their rate in Hz, and title, artist and so on where it has them.

    `notes` has one line for each thing that the file says wrongly of itself.
    """

    samples: Tensor
    sample_rate: int
    tags: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extent:
    """The number of samples a channel that `decode` returns, their rate, and whether any piece can be read alone."""

    frames: int
    sample_rate: int
    direct: bool


def decode(path: str | Path) -> Sound:
    """All the sound of a file, at its own rate and with its own channels. Samples may be NaN or infinite.

    Raises:
        InputError: the file is missing, a folder, empty, not allowed to be read, no sound file, or without samples.
        MachineError: it needs ffmpeg, which is not installed.
    """
    path = Path(path)
    require_readable(path)
    try:
        head = _head(path)
        if containers.is_web_page(head):
            raise InputError(f"{path} is a web page and no sound: it was saved in place of the song")
        if _for_ffmpeg(path, head):
            return _by_ffmpeg(path)
        if mp3.is_mp3(head, path.name) and head[:4] not in (b"RIFF", b"fLaC", b"OggS", b"FORM"):
            return _by_miniaudio(path)
        return _by_libsndfile(path)
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror})") from None
    except MemoryError:
        raise InputError(f"{path} does not fit into the memory: cut it into shorter pieces") from None


def extent(path: str | Path) -> Extent:
    """The length of the sound of a file, as `decode` returns it; said once in the log if its header is wrong.

    Files whose length only decoding shows are decoded, and their length is kept in the cache (`utils.paths.cache`).

    Raises:
        InputError: as `decode`.
    """
    path = Path(path)
    require_readable(path)
    about = path.stat()
    return _extent(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1 << 16)
def _extent(path: Path, changed: int, size: int) -> Extent:
    head = _head(path)
    if not _for_ffmpeg(path, head) and not mp3.is_mp3(head, path.name) and not containers.is_web_page(head):
        with contextlib.suppress(soundfile.SoundFileError, TypeError, OSError):  # `decode` says what is wrong
            layout = containers.layout(path)
            if layout.plain and (found := _counted(path)):
                for note in layout.notes:
                    LOG.warning("%s: %s", path, note)
                return found
    name = f"1 {os.fspath(path.absolute())} {changed} {size}".encode("utf-8", "surrogateescape")
    kept = paths.cache("lengths", hashlib.sha256(name).hexdigest()[:32])
    with contextlib.suppress(OSError, ValueError):
        frames, rate = map(int, kept.read_text().split())
        return Extent(frames, rate, False)
    sound = decode(path)
    for note in sound.notes:
        LOG.warning("%s: %s", path, note)
    # A cache that cannot be written only costs time
    with contextlib.suppress(OSError, MachineError), written_whole(kept) as scratch:
        scratch.write_text(f"{sound.samples.shape[1]} {sound.sample_rate}")
    return Extent(sound.samples.shape[1], sound.sample_rate, False)


def _counted(path: Path) -> Extent | None:
    """The extent of a file that is as long as it says, as far as libsndfile can tell without decoding it; else None."""
    with opened(path) as file:
        frames, rate = file.frames, file.samplerate
        if file.format in ("MP3", "MPEG") or not 0 < frames < LONGEST:
            return None
        if file.format == "OGG":  # counted by its last page; seeking in it is not exact (libsndfile's issue 885)
            return Extent(frames, rate, False)
        file.seek(frames - 1)
        return Extent(frames, rate, True) if len(file.read(1)) == 1 else None


def opened(path: Path) -> soundfile.SoundFile:
    """A file as libsndfile opens it; names may be any bytes. Raises soundfile.LibsndfileError or TypeError."""
    return soundfile.SoundFile(str(path) if os.name == "nt" else os.fsencode(path))


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


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _for_ffmpeg(path: Path, head: bytes) -> bool:
    if head[:4] in (b"RIFF", b"fLaC", b"OggS", b"FORM", b"RF64", b"caff") and head[8:12] != b"AVI ":
        return False  # whatever the name
    return (head[4:8] == b"ftyp" or head.startswith(MAGIC) or head[8:12] == b"AVI "
            or path.suffix.lower() in BY_FFMPEG)


def _by_libsndfile(path: Path) -> Sound:
    layout = containers.layout(path)
    sounds = [_part(path, part, layout) for part in layout.parts]
    first = sounds[0]
    same = [sound for sound in sounds
            if (len(sound.samples), sound.sample_rate) == (len(first.samples), first.sample_rate)]
    notes = (*layout.notes, *(note for sound in sounds for note in sound.notes))
    if len(same) < len(sounds):
        notes += (f"{len(sounds) - len(same)} of the joined files have another rate or other channels: left out",)
    if not sum(sound.samples.shape[1] for sound in same):
        raise InputError(f"{path} holds no samples")
    whole = first.samples if len(same) == 1 else torch.cat([sound.samples for sound in same], 1)
    return Sound(whole, first.sample_rate, first.tags, notes)


def _part(path: Path, part: containers.Part, layout: containers.Layout) -> Sound:
    window = None if layout.plain else containers.Window(path.open("rb"), part)
    try:
        file = opened(path) if window is None else soundfile.SoundFile(window)
    except (soundfile.LibsndfileError, TypeError) as problem:  # TypeError: .raw, which has no header
        reason = "it has no header" if isinstance(problem, TypeError) else reason_of(problem)
        if shutil.which("ffmpeg") and layout.plain and not isinstance(problem, TypeError):
            with contextlib.suppress(InputError):
                return _by_ffmpeg(path)
        raise InputError(f"{path} cannot be read as a sound file ({reason}); convert it to wav or flac") from None
    with file:
        cut = not file.format.startswith("WAV") and _cut_short(file.extra_info)
        notes = ["it is cut short: what is there is read"] if cut else []
        rate, tags = file.samplerate, {name: text for name in TAGS if (text := getattr(file, name, ""))}
        if 0 <= file.frames < LONGEST:
            try:
                samples = file.read(dtype="float32", always_2d=True)
                if len(samples) < file.frames:
                    notes += [f"it is cut short: of {file.frames / rate:.2f} s {len(samples) / rate:.2f} s are read"]
                return Sound(torch.from_numpy(samples).T, rate, tags, tuple(notes))
            except soundfile.LibsndfileError as problem:
                if file.format != "FLAC":
                    raise InputError(f"{path} is damaged or cut short ({reason_of(problem)})") from None
        elif file.format != "FLAC":
            raise InputError(f"{path} does not say a length that fits in memory; convert it to wav first")
        promised = file.frames
    samples = _flac(path)
    if promised < LONGEST:
        notes += [f"it is damaged or cut short: of {promised / rate:.2f} s {len(samples) / rate:.2f} s are read"]
    if not len(samples):
        raise InputError(f"{path} is damaged or cut short: no sound of it can be read")
    return Sound(torch.from_numpy(samples).T, rate, tags, tuple(notes))


def _flac(path: Path) -> np.ndarray:
    """Samples (T, C) of a flac file that is cut short or does not say its length, up to where it decodes."""
    miniaudio = library("miniaudio")
    try:
        sound = miniaudio.flac_read_f32(path.read_bytes())
    except miniaudio.DecodeError:
        return np.zeros((0, 1), np.float32)
    return np.frombuffer(sound.samples, np.float32).reshape(-1, sound.nchannels).copy()


def _by_miniaudio(path: Path) -> Sound:
    data = path.read_bytes()
    try:
        samples, rate, note = mp3.read(data)
    except MachineError:
        raise
    except InputError as problem:
        raise InputError(f"{path} cannot be read as an mp3 file ({problem}); convert it to wav or flac") from None
    tags: dict[str, str] = {}
    with contextlib.suppress(soundfile.SoundFileError, RuntimeError):  # tags alone; without the count of frames
        head = mp3.TAGS.sub(bytes(4), data[: 1 << 17])
        with soundfile.SoundFile(io.BytesIO(head)) as file:
            tags = {name: text for name in TAGS if (text := getattr(file, name, ""))}
    return Sound(torch.from_numpy(samples.copy()).T, rate, tags, (note,) if note else ())


def _by_ffmpeg(path: Path) -> Sound:
    """The first sound of a file, decoded by the program ffmpeg at its own rate and with its own channels."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise MachineError(f"{path} needs ffmpeg, which is not installed: install it, or convert the file to wav")
    command: list[str | bytes] = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe", "-i",
               b"file:" + os.fsencode(path.absolute()), "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "-"]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "sound.wav")
        with whole.open("wb") as out:
            ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        if not whole.stat().st_size:
            reason = said[-1][:200] if said else f"exit code {ended.returncode}"
            raise InputError(f"{path}: ffmpeg finds no sound in it ({reason})")
        sound = decode(whole)
    notes = (f"ffmpeg says: {said[-1][:200]}",) if ended.returncode and said else ()
    return Sound(sound.samples, sound.sample_rate, sound.tags, notes)


def reason_of(problem: soundfile.LibsndfileError) -> str:
    """The words of libsndfile, in one line."""
    text = " ".join(problem.error_string.split()).removeprefix("Error : ").rstrip(".")
    return "is the disk full?" if text == "System error" else text


def _cut_short(log: str) -> bool:
    """Whether the sizes in an aiff, au, caf, w64 or rf64 header are larger than the file.

    libsndfile reads such files and reports the sizes only in its log: "SSND : 705600 (should be 352800)".
    """
    sizes = re.findall(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return any(int(held) < int(said) < containers.UNKNOWN for said, held in sizes)


