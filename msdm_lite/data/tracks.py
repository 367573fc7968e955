"""Tracks: the protocol of a song that can be read in pieces, and songs whose stems are sound files.

A `FileTrack` is read at 22 050 Hz; its files may have any rate and number of channels. Chapter:
`book/13-scaling-up.ipynb`.
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
import torch

from msdm_lite.audio import decode, faults
from msdm_lite.audio import io as audio_io
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError

LOG = logging.getLogger("msdm_lite")

MARGIN = 0.05  # seconds read on both sides of a piece, for the resampler's filter


def _length(path: Path) -> int:
    """Length in samples at 22 050 Hz, of what decodes."""
    found = decode.extent(path)
    if round(found.frames * SAMPLE_RATE / found.sample_rate) == 0:
        raise InputError(f"{path} holds no samples")
    return round(found.frames * SAMPLE_RATE / found.sample_rate)


@lru_cache(maxsize=2 * len(STEMS))
def _decoded(path: Path, changed: int) -> np.ndarray:
    """A whole file of which no piece can be read alone, (T,): ogg, mp3, and files whose header is wrong."""
    sound = decode.decode(path)  # `decode.extent` has said what is wrong with its header
    if sound.samples.shape[1] != decode.extent(path).frames:
        _say(path, "is damaged: less of it decodes than it says, and what follows the gap is early")
    return audio_io.resample(torch.from_numpy(_mixed(path, sound.samples.T.numpy())), sound.sample_rate,
                             SAMPLE_RATE).numpy()


@cache  # so that each file is named once
def _say(path: Path, what: str) -> None:
    LOG.warning("%s %s", path, what)


def _mixed(path: Path, raw: np.ndarray) -> np.ndarray:
    """Channels (T, C) mixed by their mean, (T,); samples that are no numbers become zero."""
    if not np.isfinite(raw).all():
        _say(path, "has samples that are NaN or infinite; they are read as zero")
        raw = np.nan_to_num(raw, nan=0, posinf=0, neginf=0)
    mono = raw.mean(1)
    long = raw.shape[1] > 1 and len(raw) >= SAMPLE_RATE  # in a shorter piece the sides of any music may cancel
    if long and faults.cancelled(torch.from_numpy(raw).T, torch.from_numpy(mono)):
        _say(path, f"has sides that cancel in mono: their mean is more than {faults.CANCELLED:.0f} dB softer")
    return mono


def _piece(path: Path, start: int, count: int) -> np.ndarray:
    """Samples `start` to `start + count` of a file, mono at 22 050 Hz: (count,), or fewer at the end of the file.

    The input is read between two points at which the sample grids of both rates coincide, with a margin for the
    resampler on both sides. So a piece equals that piece of the whole resampled file.
    """
    found = decode.extent(path)
    frames, rate = found.frames, found.sample_rate
    if not found.direct:
        return _decoded(path, path.stat().st_mtime_ns)[start : start + count]
    count = min(count, round(frames * SAMPLE_RATE / rate) - start)
    if count <= 0:
        return np.zeros(0, np.float32)
    blocks = math.gcd(rate, SAMPLE_RATE)  # per second; a block is `into` samples of input and `out` of output
    into, out = rate // blocks, SAMPLE_RATE // blocks
    margin = 0 if rate == SAMPLE_RATE else math.ceil(MARGIN * blocks)
    first = max(0, start // out - margin)
    last = min(frames, (-(-(start + count) // out) + margin) * into)  # of the input
    try:  # opened in each call, since an open file cannot be shared with forked workers
        with decode.opened(path) as file:
            file.seek(first * into)
            raw = file.read(last - first * into, dtype="float32", always_2d=True)  # (T, C)
    except soundfile.SoundFileError as problem:
        raise InputError(f"{path} is damaged ({problem})") from None
    if len(raw) < last - first * into:
        raise InputError(f"{path} is damaged: less of it decodes than its last sample lets expect")
    mono = _mixed(path, raw)
    return (mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE))[start - first * out :][:count]


@dataclass(frozen=True)
class FileTrack:
    """A song whose stems are files. It can be pickled and keeps no file open, so any number of workers can read it."""

    name: str
    source: str  # the layout: "folder", "slakh" or "slakh_msdm"
    split: str | None  # "train", "val", "test", or None
    files: dict[str, tuple[Path, ...]] = field(hash=False)  # stem -> files that sum to it; silent if absent
    stems: tuple[str, ...] = STEMS

    @cached_property  # read when the folder is scanned, and pickled with the track
    def _lengths(self) -> tuple[int, ...]:
        return tuple(_length(path) for paths in self.files.values() for path in paths)

    @property
    def samples(self) -> int:
        """Length of the longest file, in samples at 22 050 Hz. Raises InputError if a file cannot be read."""
        return max(self._lengths, default=0)

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray:
        """Samples `start` to `start + count` of every stem, in the order of `stems`: (S, count) float32, at 22 050 Hz.

        `count` None reads to the end of the song. Stems without a file, and places after the end of a file, are zero; a
        `start` after the end is allowed. `read(a, n)` equals `read()[:, a : a + n]` to 1e-4. The caller may change the
        array. Channels are mixed by their mean. NaN and infinite samples are read as zero, with a warning. For a piece
        of an ogg or mp3 file, or of one whose header is wrong, the whole file is decoded: for training, convert to
        flac.

        Raises:
            InputError: a file is missing or damaged, or `start` or `count` is below zero.
        """
        if start < 0 or (count is not None and count < 0):
            raise InputError(f"start and count must not be below zero, not {start} and {count}")
        stems = np.zeros((len(self.stems), max(0, self.samples - start) if count is None else count), np.float32)
        for row, stem in zip(stems, self.stems, strict=True):
            for path in self.files.get(stem, ()):
                piece = _piece(path, start, len(row))
                row[: len(piece)] += piece
        return stems


class Track(Protocol):
    """A song whose stems can be read in pieces."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def split(self) -> str | None: ...

    @property
    def samples(self) -> int: ...

    @property
    def stems(self) -> tuple[str, ...]: ...

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray: ...


def require_rendered(tracks: Sequence[Track]) -> None:
    """Check that all songs are rendered, before anything long is computed.

    Raises:
        InputError: a song of the corpus is not rendered.
    """
    for track in tracks:
        if not getattr(track, "ready", True):
            raise InputError(f"{track.name} is not rendered yet: run `msdm-lite data build`")
