"""Stems that a user has on disk: a folder of songs, or Slakh2100 in either of its layouts.

All give tracks that are read piece by piece at 22 050 Hz, whatever rate, channels and lengths the files have:

| layout       | what                                                                                          |
|--------------|-----------------------------------------------------------------------------------------------|
| `folder`     | `song/bass.wav`, or `song_bass.wav` side by side; wav, flac, aiff, ogg or mp3                   |
| `slakh`      | Slakh2100 as published: `TrackXXXXX/metadata.yaml` and `stems/S00.flac`, by `inst_class`        |
| `slakh_msdm` | Slakh2100 as the code of MSDM (arXiv 2302.02257) expects it: `train/TrackXXXXX/bass.wav`        |

Splits are folders above the songs: train, val (validation, valid), test. A stem without a file is silence.
"""

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from msdm_lite import audio
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError

log = logging.getLogger("msdm_lite")
ENDINGS = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".mp3")  # the first is taken where a stem is there twice
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "omitted": None}
UNEQUAL = 0.1  # seconds by which the stems of a song may differ before a word is said about it
MARGIN = 0.05  # seconds read on both sides of a piece, for the resampler's filter
UNDERSTOOD = ("song/bass.wav or song_bass.wav (and drums, guitar, piano), Slakh2100's TrackXXXXX/metadata.yaml with "
              "stems/, or train/TrackXXXXX/bass.wav")
Found = tuple[str, str | None, dict[str, list[Path]]]  # name, split, stem -> files


def _open(path: Path) -> soundfile.SoundFile:
    audio._can_be_opened(path)  # says better than libsndfile why not
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, ValueError) as problem:  # ValueError: a name that is no valid text
        raise InputError(f"{path} cannot be read as a sound file ({problem})") from None
    if audio._data_cut_short(file.extra_info):
        file.close()
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    return file


def _length(path: Path) -> int:
    """Length at 22 050 Hz, by the header alone."""
    with _open(path) as file:
        frames, rate, kind = file.frames, file.samplerate, file.format
    if kind == "OGG" and audio._ogg_cut_short(path):
        raise InputError(f"{path} is cut short: it holds less sound than it says")
    if frames > 1 << 40:  # a flac that was streamed says nothing, and 2**63 - 1 is assumed
        raise InputError(f"{path} does not say its length; convert it to wav first")
    if round(frames * SAMPLE_RATE / rate) == 0:
        raise InputError(f"{path} holds no samples")
    return round(frames * SAMPLE_RATE / rate)


@lru_cache(maxsize=2 * len(STEMS))
def _decoded(path: Path, changed: int) -> np.ndarray:
    """A whole ogg or mp3, (T,): libsndfile's jumps into these are not exact (its issue 885)."""
    return audio.load(path).numpy()


@cache  # so once
def _say_no_numbers(path: Path) -> None:
    log.warning("%s has samples that are NaN or infinite; they are read as zero", path)


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
class Track:
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


def folder(path: str | Path) -> list[Track]:
    """Tracks of a folder of own stems, by name: `song/bass.wav`, `song_bass.wav` (or - or .), or one song's folder.

    Raises:
        InputError: no such folder, or no song in it that can be read.
    """
    root = _root(path)
    return _tracks(root, "folder", _named(_places(root)))


def slakh_msdm(path: str | Path) -> list[Track]:
    """Tracks of Slakh2100 as the code of MSDM expects it, by name: `train/TrackXXXXX/bass.wav`, with the split above.

    Raises:
        InputError: no such folder, or no song in it that can be read.
    """
    root = _root(path)
    below = [(split, place) for split, place in _places(root) if split and place.parent != root]
    return _tracks(root, "slakh_msdm", _named(below, prefixed=False))


def slakh(path: str | Path) -> list[Track]:
    """Tracks of Slakh2100 as published, by name, with or without splits; the folder `omitted` has the split None.

    Stems are summed by `inst_class` as in the paper; what is neither bass, drums, guitar nor piano is left out.

    Raises:
        InputError: no such folder, no song in it that can be read, or PyYAML is missing.
    """
    root = _root(path)
    try:
        import yaml  # noqa: F401
    except ImportError:
        raise InputError("the metadata of Slakh2100 needs PyYAML: pip install pyyaml") from None
    places = [(split, place) for split, place in _places(root) if os.path.isfile(place / "metadata.yaml")]
    return _tracks(root, "slakh", [(place.name, split, place) for split, place in places])


LAYOUTS = {"folder": folder, "slakh": slakh, "slakh_msdm": slakh_msdm}


def find(path: str | Path, layout: str = "auto") -> list[Track]:
    """Tracks in a folder, by name, in the layout that is named, or ("auto") the one that it has.

    Raises:
        InputError: no such folder or layout, or no song in it that can be read.
    """
    if layout == "auto":
        root = _root(path)
        places = list(_places(root))
        if any(os.path.isfile(place / "metadata.yaml") and os.path.isdir(place / "stems") for _, place in places):
            layout = "slakh"
        elif any(split and place.parent != root and re.fullmatch(r"Track\d+", place.name) for split, place in places):
            layout = "slakh_msdm"
        else:
            layout = "folder"
    if layout not in LAYOUTS:
        raise InputError(f"layout is auto, {', '.join(LAYOUTS)}, not {layout!r}")
    return LAYOUTS[layout](path)


def _root(path: str | Path) -> Path:
    if not os.path.isdir(path):
        is_file = os.path.exists(path)
        raise InputError(f"{path} is a file; a folder of stems is wanted" if is_file else f"{path}: no such folder")
    try:
        os.listdir(path)
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror})") from None
    return Path(os.path.abspath(path))  # "." has no name


def _listed(place: Path) -> list[Path]:
    """What is in a folder, in order, without hidden files; macOS leaves a `._bass.wav` beside `bass.wav`."""
    try:
        return sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    except OSError as problem:
        log.warning("%s cannot be read (%s); it is left out", place, problem.strerror)
        return []


def _places(root: Path) -> Iterator[tuple[str | None, Path]]:
    """(split, folder) of what is in the split folders, then of the other folders and the root, each once."""
    seen = {os.path.realpath(root)}  # links may lead back here
    folders = [entry for entry in _listed(root) if os.path.isdir(entry)]
    splits = [entry for entry in folders if entry.name.lower() in SPLITS and os.path.realpath(entry) not in seen]
    inner = [(SPLITS[entry.name.lower()], place) for entry in splits for place in _listed(entry)]
    for split, place in [*inner, *((SPLITS.get(entry.name.lower()), entry) for entry in folders)]:
        if os.path.isdir(place) and os.path.realpath(place) not in seen:
            seen.add(os.path.realpath(place))
            yield split, place
    yield None, root


def _named(places: Iterable[tuple[str | None, Path]], prefixed: bool = True) -> list[Found]:
    """Songs by the names of files: `bass.wav` belongs to its folder and, if `prefixed`, `song_bass.wav` to the song."""
    songs: list[Found] = []
    others: list[Path] = []
    for split, place in places:
        here: dict[str, dict[str, list[Path]]] = {}
        for entry in _listed(place):
            if entry.suffix.lower() not in ENDINGS or os.path.isdir(entry):
                continue
            match = re.fullmatch(rf"(?:(.+?)\s*[_.-]\s*)?({'|'.join(STEMS)})", entry.stem, re.IGNORECASE)
            if match and (prefixed or not match[1]):
                here.setdefault(match[1] or place.name, {}).setdefault(match[2].lower(), []).append(entry)
            else:
                others.append(entry)
        for name, files in here.items():
            for paths in files.values():
                paths.sort(key=lambda entry: ENDINGS.index(entry.suffix.lower()))
                if len(paths) > 1:
                    log.warning("%s and %s are the same stem; the first is taken", paths[0], paths[1].name)
            songs.append((name, split, {stem: paths[:1] for stem, paths in files.items()}))
    if songs and others:
        log.warning("%d other sound files are left out, for example %s", len(others), others[0])
    return songs


def _grouped(place: Path) -> dict[str, list[Path]]:
    """The files of a Slakh2100 track, by `inst_class`."""
    import yaml

    files: dict[str, list[Path]] = {}
    try:
        listed = yaml.safe_load((place / "metadata.yaml").read_text(encoding="utf-8"))["stems"]
        for number, about in listed.items():
            stem = about["inst_class"].lower()
            if stem in STEMS and about.get("audio_rendered", True):
                paths = [place / "stems" / f"{number}{ending}" for ending in (".flac", ".wav")]
                there = [path for path in paths if os.path.lexists(path)]
                files.setdefault(stem, []).extend(there[:1])
                if not there:
                    log.warning("%s: its metadata names the stem %s, and there is no such file", place.name, number)
    except (yaml.YAMLError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        reason = " ".join(str(problem).split())[:100]
        raise InputError(f"{place / 'metadata.yaml'} cannot be understood ({reason})") from None
    return files


def _tracks(root: Path, source: str, found: list[tuple[str, str | None, dict[str, list[Path]] | Path]]) -> list[Track]:
    """Tracks of the songs found, by name. Headers alone are read; a song with a file that is no good is left out."""
    tracks = []
    quiet = None if len(found) >= 50 else True  # None: unless there is a terminal
    for name, split, files in tqdm(found, desc="looking at stems", unit="song", disable=quiet):
        try:
            files = _grouped(files) if isinstance(files, Path) else files
            track = Track(name, source, split, {stem: tuple(files[stem]) for stem in STEMS if files.get(stem)})
            apart = (track.samples - min(track._lengths, default=0)) / SAMPLE_RATE
        except InputError as problem:
            log.warning("%s; the song %s is left out", problem, name)
            continue
        if not track.files:
            log.warning("%s has no bass, drums, guitar or piano; it is left out", name)
            continue
        if apart > UNEQUAL:
            log.warning("the stems of %s differ in length by %.1f s: the shorter end in silence", name, apart)
        tracks.append(track)
    if not tracks and found:
        raise InputError(f"none of the {len(found)} songs in {root} can be used; the warnings say why")
    if not tracks:
        there = [entry.name for entry in _listed(root)]
        there = ", ".join(there[:5] + ["..."] * (len(there) > 5)) or "nothing"
        raise InputError(f"no stems in {root}, which holds {there}; understood are {UNDERSTOOD}")
    return sorted(tracks, key=lambda track: (track.name, track.split or ""))
