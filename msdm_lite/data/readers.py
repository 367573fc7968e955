"""Readers of folders of stems: a user's own songs, or Slakh2100 in either of its layouts.

All return tracks that are read in pieces at 22 050 Hz; the files may have any rate, channels and lengths:

- `folder`: `song/bass.wav`, or `song_bass.wav` side by side; wav, flac, aiff, ogg, mp3 or m4a;
- `slakh`: Slakh2100 as published: `TrackXXXXX/metadata.yaml` and `stems/S00.flac`, by `inst_class`;
- `slakh_msdm`: Slakh2100 as the code of MSDM (arXiv 2302.02257) expects it: `train/TrackXXXXX/bass.wav`.

Splits are folders above the songs: train, val (validation, valid), test. A stem without a file is silence.
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
    return _tracks(root, "folder", _named(_places(root), stems), stems)


def slakh_msdm(path: str | Path, stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks of Slakh2100 as the code of MSDM expects it, by name: `train/TrackXXXXX/bass.wav`, in folders of splits.

    Raises:
        InputError: there is no such folder, or no song in it can be read.
    """
    root = _root(path)
    below = [(split, place) for split, place in _places(root) if split and place.parent != root]
    return _tracks(root, "slakh_msdm", _named(below, stems, prefixed=False), stems)


def slakh(path: str | Path, stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks of Slakh2100 as published, by name, with or without splits; the folder `omitted` has the split None.

    Stems are summed by `inst_class` as in the paper; instruments of other classes than `stems` are left out.

    Raises:
        InputError: there is no such folder, or no song in it can be read.
        MachineError: PyYAML is missing.
    """
    root = _root(path)
    library("yaml", "pyyaml")  # raise here if it is missing, before any song is left out
    places = [(split, place) for split, place in _places(root) if os.path.isfile(place / "metadata.yaml")]
    return _tracks(root, "slakh", [(place.name, split, place) for split, place in places], stems)


LAYOUTS = {"folder": folder, "slakh": slakh, "slakh_msdm": slakh_msdm}


def find(path: str | Path, layout: str = "auto", stems: Sequence[str] = STEMS) -> list[FileTrack]:
    """Tracks in a folder, by name, in the given layout; "auto" detects the layout. `stems` are the names, in order.

    Raises:
        InputError: there is no such folder or layout, or no song in it can be read.
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


def _places(root: Path) -> Iterator[tuple[str | None, Path]]:
    """(split, folder) for the folders in the split folders, then for the other folders and the root, each once."""
    seen = {os.path.realpath(root)}  # symbolic links may lead back to the root
    folders = [entry for entry in _listed(root) if os.path.isdir(entry)]
    splits = [entry for entry in folders if entry.name.lower() in SPLITS and os.path.realpath(entry) not in seen]
    inner = [(SPLITS[entry.name.lower()], place) for entry in splits for place in _listed(entry)]
    for split, place in [*inner, *((SPLITS.get(entry.name.lower()), entry) for entry in folders)]:
        if os.path.isdir(place) and os.path.realpath(place) not in seen:
            seen.add(os.path.realpath(place))
            yield split, place
    yield None, root


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


def _grouped(place: Path, stems: Sequence[str]) -> dict[str, list[Path]]:
    """The files of a Slakh2100 track, by `inst_class`."""
    import yaml

    files: dict[str, list[Path]] = {}
    spelled = {stem.lower(): stem for stem in stems}
    try:
        listed = yaml.safe_load((place / "metadata.yaml").read_text(encoding="utf-8"))["stems"]
        for number, about in listed.items():
            stem = spelled.get(about["inst_class"].lower())
            if stem and about.get("audio_rendered", True):
                paths = [place / "stems" / f"{number}{ending}" for ending in (".flac", ".wav")]
                there = [path for path in paths if os.path.lexists(path)]
                files.setdefault(stem, []).extend(there[:1])
                if not there:
                    LOG.warning("%s: its metadata names the stem %s, and there is no such file", place.name, number)
    except (yaml.YAMLError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        reason = " ".join(str(problem).split())[:100]
        raise InputError(f"{place / 'metadata.yaml'} cannot be understood ({reason})") from None
    return files


def _other_stems(root: Path) -> list[str]:
    """Names of the sound files that two song folders or more have in common; without the mixture's."""
    counts = Counter(entry.stem for split, place in _places(root) if place != root
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
            files = _grouped(files, stems) if isinstance(files, Path) else files
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
        if others := _other_stems(root):
            raise InputError(f"no stems {', '.join(stems)} in {root}: its songs have {', '.join(others)}. "
                             f"Name those to use: --stems {' '.join(others)}")
        names = [entry.name for entry in _listed(root)]
        there = ", ".join(names[:5] + ["..."] * (len(names) > 5)) or "nothing"
        raise InputError(f"no stems in {root}, which holds {there}; understood are {UNDERSTOOD}")
    return sorted(tracks, key=lambda track: (track.name, track.split or ""))
