"""Where the package keeps what ships with it, and where it caches what it makes.

Small things (MIDI songs, clips, weights, results) ship in `data/`: inside the package when it was installed from a
wheel, beside it in a checkout. Large things (rendered audio, unpacked packages) are made on the user's machine and live
in a cache.
"""

import os
from pathlib import Path

from msdm_lite.errors import InputError

PACKAGE = Path(__file__).resolve().parent


def data_folder() -> Path:
    """The folder of shipped data."""
    packed = PACKAGE / "_data"
    return packed if packed.is_dir() else PACKAGE.parent / "data"


def data(*parts: str) -> Path:
    """The path of one shipped file, e.g. `data("clips", "clips.json")`.

    Raises:
        InputError: the file does not ship with this installation.
    """
    path = data_folder().joinpath(*parts)
    if not path.exists():
        raise InputError(f"{'/'.join(parts)} is not among the data of this installation ({data_folder()})")
    return path


def cache(*parts: str) -> Path:
    """A path in the cache: `$MSDM_LITE_CACHE`, else `$XDG_CACHE_HOME/msdm_lite`, else `~/.cache/msdm_lite`."""
    root = os.environ.get("MSDM_LITE_CACHE")
    if root is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msdm_lite"
    return Path(root).joinpath(*parts)
