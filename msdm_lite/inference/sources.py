"""What a command line names: files, folders of them, standard input, and stems by the names of their files.

Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msdm_lite.errors import InputError, shown
from msdm_lite.utils.paths import expanded

STDIN = "-"
# Endings by which a sound file in a folder is known; a file that is named itself may have any
ENDINGS = frozenset([".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64",
                     ".rf64", ".m4a", ".mp4", ".aac", ".wma", ".webm", ".mkv", ".mov"])


def sound_files(words: Sequence[str]) -> list[Path]:
    """The files that words name: a folder stands for the sound files in it, in order of name; - is left as it is.

    Files that are named twice count once.

    Raises:
        InputError: a folder without a sound file.
    """
    found: dict[str, Path] = {}
    for word in words:
        path = expanded(word)
        here = [path]
        if word != STDIN and path.is_dir():
            here = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS and file.is_file()
                          and not file.name.startswith("."))
            if not here:
                raise InputError(f"{shown(path)} is a folder without a sound file")
        for file in here:
            found.setdefault(word if word == STDIN else os.path.abspath(file), file)
    return list(found.values())


def folder_names(files: Sequence[Path]) -> list[str]:
    """A folder name for each file: its name without the ending, numbered where two are alike.

    Capital and small letters count as alike, since some file systems do not tell them apart.
    """
    taken: set[str] = set()
    names = []
    for file in files:
        own = "stdin" if str(file) == STDIN else file.stem.strip(". ") or "song"
        name, number = own, 1
        while name.lower() in taken:
            number += 1
            name = f"{own}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


@contextmanager
def at_hand(file: Path) -> Iterator[Path]:
    """A context with the file itself, or, for -, with a file of what standard input holds.

    Raises:
        InputError: standard input is a terminal, or empty.
    """
    if str(file) != STDIN:
        yield file
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("- is standard input, and nothing comes from it: msdm-lite separate - < song.wav")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        if not path.stat().st_size:
            raise InputError("standard input is empty")
        yield path


def _words(name: str) -> list[str]:
    """The words in a file name, in small letters: "02_GuitarDI" has guitar and di."""
    return [word.lower() for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])", name)]


def stem_named(name: str, stems: Sequence[str]) -> str | None:
    """The stem that a name has in it, in whatever case: drums for "Drums", "song_drums" and "Drum kit"; None for none.

    Raises:
        InputError: it has several.
    """
    for stem in stems:
        if stem.lower() == name.lower().strip():
            return stem
    words = {word.removesuffix("s") for word in _words(name)}
    found = [stem for stem in stems if {word.removesuffix("s") for word in _words(stem)} <= words]
    if len(found) > 1:
        raise InputError(f"{shown(name)} names {' and '.join(found)}: say which, as in {found[0]}=FILE")
    return found[0] if found else None


def named_files(words: Sequence[str], stems: Sequence[str]) -> dict[str, Path]:
    """Files by stem: "drums=kick.wav", "Drums.wav" and "song_drums.wav" all name the drums.

    A name that no stem of `stems` is in is kept as it is.

    Raises:
        InputError: a stem is given twice, or a name has several stems in it.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or expanded(word).exists():
            name, path = stem_named(Path(word).stem, stems) or Path(word).stem, word
        else:
            name = next((stem for stem in stems if stem.lower() == name.lower()), name)
        if name in found:
            raise InputError(f"{shown(name)} is given twice: {shown(found[name])} and {shown(path)}")
        found[name] = expanded(path)
    return found


def mixes_and_given(files: Sequence[str], given: Sequence[str], stems: Sequence[str]
                    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that name mixes, and those that name given stems.

    An option of several words takes all that follow it: in `--given drums=kick.wav song.mp3` the mix is among them. It
    is the one that names no stem.

    Raises:
        InputError: there is no mix, or it is not clear which file it is.
    """
    if files:
        return tuple(files), tuple(given)

    def is_stem(word: str) -> bool:
        if "=" in word and not expanded(word).exists():
            return True
        return stem_named(Path(word).stem, stems) is not None

    mixes = tuple(word for word in given if not is_stem(word))
    if not given:
        raise InputError("no file is named: name a mix, as in msdm-lite separate song.mp3 --out stems")
    if len(mixes) != 1:
        raise InputError("it is not clear which file is the mix and which are given stems: name the mix first")
    return mixes, tuple(word for word in given if word not in mixes)
