"""Output folders and files: checked before long work begins, locked meanwhile, written whole or not at all."""

import contextlib
import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msdm_lite.errors import InputError, MachineError


def writable_folder(folder: str | Path) -> Path:
    """The folder, made if need be, and proven to take files, so that long work does not end in a refusal.

    Raises:
        InputError: it cannot be made or written to; what was made on the way is removed again.
    """
    folder = Path(folder)
    new = _missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except FileExistsError:
        raise InputError(f"{folder} is a file, not a folder") from None
    except OSError as problem:
        _remove_empty(new)
        raise InputError(f"{folder} cannot be written to ({problem.strerror})") from None
    return folder


def writable_file(path: str | Path) -> Path:
    """A path that a file can be written to, proven like its folder; nothing is left of the proof.

    Raises:
        InputError: it is a folder, or its own folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, and should be a file")
    new = _missing(path.parent)
    writable_folder(path.parent)
    _remove_empty(new)  # it will be made with the file, if that is ever made
    return path


def _missing(folder: Path) -> list[Path]:
    """What of a folder's path is not there yet, the deepest first."""
    return [place for place in (folder, *folder.parents) if not os.path.lexists(place)]


def _remove_empty(folders: list[Path]) -> None:
    for place in folders:
        with contextlib.suppress(OSError):
            place.rmdir()


@contextlib.contextmanager
def claimed(folder: str | Path) -> Iterator[Path]:
    """A folder that results will go to, as `writable_folder`, kept from other runs until the work is done.

    If the work fails or is interrupted, folders that were made for it and hold nothing are removed again.

    Raises:
        InputError: it cannot be written to, or another run is writing into it.
    """
    new = _missing(Path(folder))
    folder = writable_folder(folder)
    handle = _lock(folder)
    try:
        yield folder
    except BaseException:
        _remove_empty(new)
        raise
    finally:
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """A lock on a folder that the system lifts when the process ends, however it ends; None where there are none."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"another run is writing into {folder}; choose another folder, or wait for it") from None
    except OSError:  # some network file systems have no locks
        os.close(handle)
        return None
    return handle


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
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
