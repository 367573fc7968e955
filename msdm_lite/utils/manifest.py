"""The manifest of a folder of results: what was made there, so that nothing of the user's is written over.

`msdm-lite.json` lists each run with its command, inputs, seed, model and version, and the SHA-256 of each file that it
wrote. A file that is not in it, or that has changed since, is the user's. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msdm_lite.errors import InputError
from msdm_lite.utils.files import written_whole

NAME = "msdm-lite.json"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def runs(folder: Path) -> list[dict[str, Any]] | None:
    """The runs in a folder's manifest, oldest first; [] without a manifest, None if the file is something else."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, RecursionError):
        return None
    listed = found.get("runs") if isinstance(found, dict) and found.get("written by") == "msdm-lite" else None
    if not isinstance(listed, list) or not all(isinstance(run, dict) and isinstance(run.get("outputs"), dict)
                                               for run in listed):
        return None
    return listed


def _hashes(folder: Path) -> dict[str, set[str]]:
    """What each file that was made in a folder may be: one hash, or two where a run was killed while it renamed."""
    found: dict[str, set[str]] = {}
    for run in runs(folder) or ():
        for name, value in run["outputs"].items():
            found.setdefault(name, set()).update(map(str, value if isinstance(value, list) else [value]))
    return found


def require_own(folder: str | Path, names: Iterable[str], inputs: Iterable[str | Path] = (),
                overwrite: bool = False) -> None:
    """Check before long work that files of these names can be written to a folder without a loss.

    Args:
        inputs: files that are read; none of them is written over, whatever `overwrite` says.
        overwrite: files that are not in the manifest, or have changed since, may be written over.

    Raises:
        InputError: one of them is an input, or is the user's.
    """
    folder = Path(folder)
    known, inputs = _hashes(folder), list(inputs)
    for name in (*names, NAME):
        path = folder / name
        if not os.path.lexists(path):
            continue
        if any(_same(path, each) for each in inputs):
            raise InputError(f"{path} is an input, and would be written over: choose another folder with --out")
        if overwrite or (name == NAME and runs(folder) is not None):
            continue
        says = "has changed since it was made" if name in known else "is there already, and was not made by msdm-lite"
        if not path.is_file() or sha256(path) not in known.get(name, ()):
            raise InputError(f"{path} {says}: choose another folder with --out, or write over it with --overwrite")


def require_record(path: Path, overwrite: bool = False) -> None:
    """Check before long work that a record can be written to a path without a loss: an older record may be replaced.

    Raises:
        InputError: what is there is no record of this package.
    """
    if overwrite or not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "wall_seconds" not in found:
        raise InputError(f"{path} is there already, and is no record of msdm-lite: choose another file with --out, or "
                         "write over it with --overwrite")


def _same(one: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


class Entry:
    """One run in the manifest of a folder: `begin` before its files get their names, then `finish`, or `undo`.

    Between the two a file may have its old or its new hash, so that a killed run leaves no file that is not known.

    Args:
        folder: where the run writes.
        facts: command, inputs, seed, model, version, ...; what JSON can hold.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        self.folder, self.facts = folder, dict(facts)
        self.before = runs(folder) or []
        self.text = (folder / NAME).read_bytes() if (folder / NAME).is_file() else None
        self.new: dict[str, str] = {}

    def begin(self, scratch: Mapping[Path, Path]) -> None:
        """Note the files that are about to get their names: path -> scratch file."""
        self.new = {path.name: sha256(part) for path, part in scratch.items()}
        old = _hashes(self.folder)
        self._write({name: [value, *sorted(old.get(name, set()) - {value})] for name, value in self.new.items()})

    def finish(self) -> None:
        """All files have their names."""
        self._write(dict(self.new))

    def undo(self) -> None:
        """No file has got its name: the manifest is what it was."""
        if self.text is None:
            (self.folder / NAME).unlink(missing_ok=True)
        else:
            with written_whole(self.folder / NAME) as part:
                part.write_bytes(self.text)

    def _write(self, outputs: Mapping[str, Any]) -> None:
        kept = []
        for run in self.before:  # of an older run only what was not replaced
            left = {name: value for name, value in run["outputs"].items() if name not in self.new}
            kept += [{**run, "outputs": left}] if left else []
        whole = {"written by": "msdm-lite", "runs": [*kept, {**self.facts, "outputs": outputs}]}
        with written_whole(self.folder / NAME) as part:
            part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
