"""Readers of folders of stems: a user's own songs, or Slakh2100 in either of its layouts.

All return tracks that are read in pieces at 22 050 Hz; the files may have any rate, channels and lengths:

- `folder`: `song/bass.wav`, or `song_bass.wav` side by side; wav, flac, aiff, ogg, mp3 or m4a;
- `slakh`: Slakh2100 as published: `TrackXXXXX/metadata.yaml` and `stems/S00.flac`, by `inst_class`;
- `slakh_msdm`: Slakh2100 as the code of MSDM (arXiv 2302.02257) expects it: `train/TrackXXXXX/bass.wav`.

Splits are folders above the songs: train, val (validation, valid), test; also the folder that is given. A folder that
holds the stems of a song is a song, whatever its name. A stem without a file is silence.
Chapter: `book/13-scaling-up.ipynb`.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import slakh as slakh_metadata
from msdm_lite.data.tracks import FileTrack
from msdm_lite.errors import InputError
from msdm_lite.utils.imports import library
from msdm_lite.utils.paths import expanded

LOG = logging.getLogger("msdm_lite")

# If a stem has several files, the first of these is taken
ENDINGS = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".mp3", ".m4a")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "omitted": None}
MIXTURES = ("mix", "mixture")  # names of files that are no stem
UNEQUAL = 0.1  # seconds by which the lengths of the stems may differ without a warning
UNDERSTOOD = ("song/bass.wav or song_bass.wav (and drums, guitar, piano), Slakh2100's TrackXXXXX/metadata.yaml with "
              "stems/, or train/TrackXXXXX/bass.wav")
Found = tuple[str, str | None, dict[str, list[Path]]]  # name, split, stem -> files


def folder(path: str | Path, stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks of a folder of stems, by name: `song/bass.wav`, `song_bass.wav` (or - or .), or the folder of one song.

    Raises:
        InputError: there is no such folder, or no song in it can be read.
    """
    root = _root(path)
    return _tracks(root, "folder", _named(_places(root, stems), stems), stems)


def slakh_msdm(path: str | Path, stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks of Slakh2100 as the code of MSDM expects it, by name: `train/TrackXXXXX/bass.wav`, in folders of splits.

    Raises:
        InputError: there is no such folder, or no song in it can be read.
    """
    root = _root(path)
    return _tracks(root, "slakh_msdm", _named(_below_splits(root, stems), stems, prefixed=False), stems)


def slakh(path: str | Path, stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks of Slakh2100 as published, by name, with or without splits; the folder `omitted` has the split None.

    Stems are summed by `inst_class` as in the paper; instruments of other classes than `stems` are left out.

    Raises:
        InputError: there is no such folder, or no song in it can be read.
        MachineError: PyYAML is missing.
    """
    root = _root(path)
    library("yaml", "pyyaml")  # raise here if it is missing, before any song is left out
    places = [(split, place) for split, place in _places(root, stems) if os.path.isfile(place / "metadata.yaml")]
    return _tracks(root, "slakh", [(place.name, split, place) for split, place in places], stems)


LAYOUTS = {"folder": folder, "slakh": slakh, "slakh_msdm": slakh_msdm}


def find(path: str | Path, layout: str = "auto", stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks in a folder, by name, in the given layout; "auto" detects the layout. `stems` are the names, in order.

    Raises:
        InputError: there is no such folder or layout, or no song in it can be read.
    """
    if layout == "auto":
        root = _root(path)
        if any(slakh_metadata.is_track(place) for _, place in _places(root, stems)):
            layout = "slakh"
        elif any(re.fullmatch(r"Track\d+", place.name) for _, place in _below_splits(root, stems)):
            layout = "slakh_msdm"
        else:
            layout = "folder"
    if layout not in LAYOUTS:
        raise InputError(f"layout is auto, {', '.join(LAYOUTS)}, not {layout!r}")
    return LAYOUTS[layout](path, stems)


def _root(path: str | Path) -> Path:
    path = expanded(path)
    if not os.path.isdir(path):
        is_file = os.path.exists(path)
        raise InputError(f"{path} is a file; a folder of stems is wanted" if is_file else f"{path}: no such folder")
    try:
        os.listdir(path)
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror})") from None
    return Path(os.path.abspath(path))  # "." has no name


def _listed(place: Path) -> list[Path]:
    """The entries of a folder, sorted, without hidden ones; macOS writes a `._bass.wav` beside `bass.wav`."""
    try:
        return sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    except OSError as problem:
        LOG.warning("%s cannot be read (%s); it is left out", place, problem.strerror)
        return []


def _is_song(place: Path, stems: Sequence[str]) -> bool:
    """Whether a folder holds the stems of one song: a song may be called `Test`."""
    names = {stem.lower() for stem in stems}
    return slakh_metadata.is_track(place) or any(
        entry.stem.lower() in names and entry.suffix.lower() in ENDINGS for entry in _listed(place))


def _splits(root: Path, stems: Sequence[str]) -> tuple[str | None, dict[Path, str | None]]:
    """The split that the folder itself is, as `slakh/test` given; and its folders that are splits."""
    inside = {entry: SPLITS[entry.name.lower()] for entry in _listed(root)
              if entry.name.lower() in SPLITS and os.path.isdir(entry) and not _is_song(entry, stems)}
    own = None if inside or _is_song(root, stems) else SPLITS.get(root.name.lower())
    return own, inside


def _places(root: Path, stems: Sequence[str]) -> Iterator[tuple[str | None, Path]]:
    """(split, folder) for the folders in the split folders, then for the other folders and the root, each once."""
    seen = {os.path.realpath(root)}  # symbolic links may lead back to the root
    own, splits = _splits(root, stems)
    inner = [(split, place) for entry, split in splits.items() if os.path.realpath(entry) not in seen
             for place in _listed(entry)]
    for split, place in [*inner, *((splits.get(entry, own), entry) for entry in _listed(root))]:
        if os.path.isdir(place) and os.path.realpath(place) not in seen:
            seen.add(os.path.realpath(place))
            yield split, place
    yield own, root


def _below_splits(root: Path, stems: Sequence[str]) -> list[tuple[str | None, Path]]:
    """The folders of `_places` that are in a folder of a split."""
    own, splits = _splits(root, stems)
    return [(split, place) for split, place in _places(root, stems)
            if split and place != root and (own or place not in splits)]


def _named(places: Iterable[tuple[str | None, Path]], stems: Sequence[str], prefixed: bool = True) -> list[Found]:
    """Songs by file names: `bass.wav` belongs to the song of its folder; with `prefixed`, `song_bass.wav` to `song`."""
    songs: list[Found] = []
    others: list[Path] = []
    names, spelled = "|".join(map(re.escape, stems)), {stem.lower(): stem for stem in stems}
    for split, place in places:
        here: dict[str, dict[str, list[Path]]] = {}
        for entry in _listed(place):
            if entry.suffix.lower() not in ENDINGS or os.path.isdir(entry):
                continue
            match = re.fullmatch(rf"(?:(.+?)\s*[_.-]\s*)?({names})", entry.stem, re.IGNORECASE)
            if match and (prefixed or not match[1]):
                here.setdefault(match[1] or place.name, {}).setdefault(spelled[match[2].lower()], []).append(entry)
            elif entry.stem.lower() not in MIXTURES:
                others.append(entry)
        for name, files in here.items():
            for paths in files.values():
                paths.sort(key=lambda entry: ENDINGS.index(entry.suffix.lower()))
                if len(paths) > 1:
                    LOG.warning("%s and %s are the same stem; the first is taken", paths[0], paths[1].name)
            songs.append((name, split, {stem: paths[:1] for stem, paths in files.items()}))
    if songs and others:
        there = {stem for _, _, files in songs for stem in files}
        counts = Counter(entry.stem for entry in others)
        found = [stem for stem in stems if stem in there] + sorted(name for name, count in counts.items() if count > 1)
        LOG.warning("%d other sound files are left out, for example %s; the stems are %s, and found are %s",
                    len(others), others[0], ", ".join(stems), ", ".join(found))
    return songs


def _other_stems(root: Path, stems: Sequence[str]) -> list[str]:
    """Names of the sound files that two song folders or more have in common; without the mixture's."""
    counts = Counter(entry.stem for _, place in _places(root, stems) if place != root
                     for entry in _listed(place) if entry.suffix.lower() in ENDINGS)
    return sorted(name for name, count in counts.items() if count > 1 and name.lower() not in MIXTURES)


def _tracks(root: Path, source: str,
            found: Sequence[tuple[str, str | None, dict[str, list[Path]] | Path]],
            stems: Sequence[str]) -> list[FileTrack]:
    """Tracks of the songs found, sorted by name, with the lengths of what decodes.

    Songs with an unusable file are left out.
    """
    tracks = []
    quiet = None if len(found) >= 50 else True  # None: show the bar only on a terminal
    for name, split, files in tqdm(found, desc="looking at stems", unit="song", disable=quiet):
        try:
            files = slakh_metadata.stem_files(files, stems) if isinstance(files, Path) else files
            track = FileTrack(name, source, split, {stem: tuple(files[stem]) for stem in stems if files.get(stem)},
                              tuple(stems))
            apart = (track.samples - min(track._lengths, default=0)) / SAMPLE_RATE
        except InputError as problem:
            LOG.warning("%s; the song %s is left out", problem, name)
            continue
        if not track.files:
            LOG.warning("%s has no %s or %s; it is left out", name, ", ".join(stems[:-1]), stems[-1])
            continue
        if apart > UNEQUAL:
            LOG.warning("the stems of %s differ in length by %.1f s: the shorter end in silence", name, apart)
        tracks.append(track)
    if not tracks and found:
        raise InputError(f"none of the {len(found)} songs in {root} can be used; the warnings say why")
    if not tracks:
        if others := _other_stems(root, stems):
            raise InputError(f"no stems {', '.join(stems)} in {root}: its songs have {', '.join(others)}. "
                             f"Name those to use: --stems {' '.join(others)}")
        names = [entry.name for entry in _listed(root)]
        there = ", ".join(names[:5] + ["..."] * (len(names) > 5)) or "nothing"
        raise InputError(f"no stems in {root}, which holds {there}; understood are {UNDERSTOOD}")
    return sorted(tracks, key=lambda track: (track.name, track.split or ""))
