"""Tracks: the protocol of a song that can be read piece by piece, and songs whose stems are sound files.

A `FileTrack` is read at 22 050 Hz, whatever rate and channels its files have. Chapter: `book/13-scaling-up.ipynb`.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError

LOG = logging.getLogger("msdm_lite")

MARGIN = 0.05  # seconds read on both sides of a piece, for the resampler's filter


def _open(path: Path) -> soundfile.SoundFile:
    audio_io.require_readable(path)  # says better than libsndfile why not
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, ValueError) as problem:  # ValueError: a name that is no valid text
        raise InputError(f"{path} cannot be read as a sound file ({problem})") from None
    if audio_io._data_cut_short(file.extra_info):
        file.close()
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    return file


def _length(path: Path) -> int:
    """Length at 22 050 Hz, by the header alone."""
    with _open(path) as file:
        frames, rate, kind = file.frames, file.samplerate, file.format
    if kind == "OGG" and audio_io.ogg_cut_short(path):
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    if frames > 1 << 40:  # a flac that was streamed says nothing, and 2**63 - 1 is assumed
        raise InputError(f"{path} does not say its length; convert it to wav first")
    if round(frames * SAMPLE_RATE / rate) == 0:
        raise InputError(f"{path} holds no samples")
    return round(frames * SAMPLE_RATE / rate)


@lru_cache(maxsize=2 * len(STEMS))
def _decoded(path: Path, changed: int) -> np.ndarray:
    """A whole ogg or mp3, (T,): libsndfile's jumps into these are not exact (its issue 885)."""
    return audio_io.load(path).numpy()


@cache  # so once
def _say_no_numbers(path: Path) -> None:
    LOG.warning("%s has samples that are NaN or infinite; they are read as zero", path)


def _piece(path: Path, start: int, count: int) -> np.ndarray:
    """Samples `start` to `start + count` of a file, mono at 22 050 Hz: at most (count,), fewer where the file ends.

    Input is read from one point where both sample grids meet to another, with a margin for the resampler on both
    sides. A piece is then the same as that piece of the whole.
    """
    with _open(path) as file:  # opened anew each time: a handle would not survive the fork into workers
        frames, rate = file.frames, file.samplerate
        if file.format in ("OGG", "MP3"):
            return _decoded(path, path.stat().st_mtime_ns)[start : start + count]
        count = min(count, round(frames * SAMPLE_RATE / rate) - start)
        if count <= 0:
            return np.zeros(0, np.float32)
        blocks = math.gcd(rate, SAMPLE_RATE)  # a second; each is `into` samples of input and `out` of output
        into, out = rate // blocks, SAMPLE_RATE // blocks
        margin = 0 if rate == SAMPLE_RATE else math.ceil(MARGIN * blocks)
        first = max(0, start // out - margin)
        last = min(frames, (-(-(start + count) // out) + margin) * into)  # of the input
        try:
            file.seek(first * into)
            raw = file.read(last - first * into, dtype="float32", always_2d=True)  # (T, C)
        except soundfile.SoundFileError as problem:
            raise InputError(f"{path} is damaged or cut short ({problem})") from None
    if len(raw) < last - first * into:
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    if not np.isfinite(raw).all():
        _say_no_numbers(path)
        raw = np.nan_to_num(raw, nan=0, posinf=0, neginf=0)
    mono = raw.mean(1)
    return (mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE))[start - first * out :][:count]


@dataclass(frozen=True)
class FileTrack:
    """One song whose stems are files. It can be pickled and holds no open file, so any number of workers may read."""

    name: str
    source: str  # the layout: "folder", "slakh" or "slakh_msdm"
    split: str | None  # "train", "val", "test", or None
    files: dict[str, tuple[Path, ...]] = field(hash=False)  # stem -> files that sum to it; absent is silence

    @cached_property  # looked up when the folder is scanned, and pickled along
    def _lengths(self) -> tuple[int, ...]:
        return tuple(_length(path) for paths in self.files.values() for path in paths)

    @property
    def samples(self) -> int:
        """Length at 22 050 Hz, of the longest file; InputError if one cannot be read."""
        return max(self._lengths, default=0)

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray:
        """Samples `start` to `start + count` of every stem, in the order of `STEMS`: (S, count) float32, at 22 050 Hz.

        `count` None reads to the end of the song. Behind the end of a file, and where a stem has none, are zeros; a
        `start` behind the end is no error. `read(a, n)` is `read()[:, a : a + n]` to 1e-4, and the array is the
        caller's to change. Channels are mixed by their mean; samples that are NaN or infinite are read as zero, with a
        warning. A piece of an ogg or mp3 takes decoding all of it: for training, convert to flac.

        Raises:
            InputError: a file is gone, damaged or cut short, or `start` or `count` is below zero.
        """
        if start < 0 or (count is not None and count < 0):
            raise InputError(f"start and count must not be below zero, not {start} and {count}")
        stems = np.zeros((len(STEMS), max(0, self.samples - start) if count is None else count), np.float32)
        for row, stem in zip(stems, STEMS, strict=True):
            for path in self.files.get(stem, ()):
                piece = _piece(path, start, len(row))
                row[: len(piece)] += piece
        return stems


class Track(Protocol):
    """Stems that can be read piece by piece."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def split(self) -> str | None: ...

    @property
    def samples(self) -> int: ...

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray: ...


def require_rendered(tracks: Sequence[Track]) -> None:
    """Refuse, early, songs that cannot be heard yet.

    Raises:
        InputError: one of the corpus is not rendered.
    """
    for track in tracks:
        if not getattr(track, "ready", True):
            raise InputError(f"{track.name} is not rendered yet: run `msdm-lite data build`")
