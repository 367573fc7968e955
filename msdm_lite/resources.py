"""Where the package keeps what ships with it, and where it caches what it makes.

Small things (MIDI songs, clips, weights, results) ship in `data/`: inside the package when it was installed from a
wheel, beside it in a checkout. Large things (rendered audio, unpacked packages) are made on the user's machine and live
in a cache.
"""

import errno
import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from msdm_lite.errors import InputError, MachineError

PACKAGE = Path(__file__).resolve().parent


def data_folder() -> Path:
    """The folder of shipped data."""
    packed = PACKAGE / "_data"
    return packed if packed.is_dir() else PACKAGE.parent / "data"


def sources() -> Path:
    """The folder of shipped data where it is made: that of a checkout.

    Raises:
        InputError: this is an installation, whose data nobody could restore.
    """
    if data_folder().is_relative_to(PACKAGE):
        raise InputError("what ships with this installation is not written over: name another folder with --out")
    return data_folder()


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
    chosen = os.environ.get("MSDM_LITE_CACHE")  # said, and not empty
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msdm_lite"
    return (Path(chosen) if chosen else usual).joinpath(*parts)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch path to write to, which becomes `path` at the end of the block: a file is whole, or it is not there.

    Raises:
        MachineError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield scratch
        scratch.replace(path)
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            raise MachineError(f"no space left for {path}: free some and call again, nothing is lost") from None
        raise
    finally:
        scratch.unlink(missing_ok=True)


def ignore_interrupts(*_: object) -> None:
    """For processes that work for another one: Ctrl-C on a terminal reaches all, and only that one answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def library(name: str, package: str | None = None) -> ModuleType:
    """A library that only some parts of the package need, such as "librosa.onset".

    Args:
        package: what to install, if it has another name.

    Raises:
        MachineError: it is not installed, or broken.
    """
    top = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        if isinstance(problem, ModuleNotFoundError) and (problem.name or top).split(".")[0] == top:
            raise MachineError(f"this needs {package or top}: pip install {package or top}") from None
        raise MachineError(f"{top} is installed, and cannot be imported: {problem}") from None
