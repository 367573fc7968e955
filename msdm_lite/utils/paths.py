"""Paths of the shipped data and of the cache.

Small files (MIDI songs, clips, weights, results) ship in `data/`: inside the package if it was installed from a wheel,
beside it in a checkout. Large files (rendered audio, unpacked packages) are created on the user's machine and stay in a
cache.
"""

import contextlib
import os
from pathlib import Path

from msdm_lite.errors import InputError

PACKAGE = Path(__file__).resolve().parent.parent


def expanded(path: str | Path) -> Path:
    """A path that a user gave, with `~` for the home folder, as shells do; a file that is called so is taken first."""
    path = Path(path)
    if str(path).startswith("~") and not os.path.lexists(path):
        with contextlib.suppress(RuntimeError):  # no such user
            return path.expanduser()
    return path


def data_folder() -> Path:
    """The folder of shipped data."""
    packed = PACKAGE / "_data"
    return packed if packed.is_dir() else PACKAGE.parent / "data"


def sources() -> Path:
    """The folder of shipped data of a checkout, for the commands that write it.

    Raises:
        InputError: the package is installed; its data must not be overwritten.
    """
    if data_folder().is_relative_to(PACKAGE):
        raise InputError("what ships with this installation is not written over: name another folder with --out")
    return data_folder()


def data(*parts: str) -> Path:
    """The path of one shipped file, e.g. `data("clips", "clips.json")`.

    Raises:
        InputError: the file is not among the data of this installation.
    """
    path = data_folder().joinpath(*parts)
    if not path.exists():
        raise InputError(f"{'/'.join(parts)} is not among the data of this installation ({data_folder()})")
    return path


def cache(*parts: str) -> Path:
    """A path in the cache: `$MSDM_LITE_CACHE`, else `$XDG_CACHE_HOME/msdm_lite`, else `~/.cache/msdm_lite`."""
    chosen = os.environ.get("MSDM_LITE_CACHE")  # an empty value counts as unset
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msdm_lite"
    return (Path(chosen) if chosen else usual).joinpath(*parts)
