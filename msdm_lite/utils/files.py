"""Output folders and files: they are checked before long work, locked meanwhile, and never left half-written."""

import contextlib
import errno
import glob
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msdm_lite.errors import InputError, MachineError


def writable_folder(folder: str | Path) -> Path:
    """Create the folder if it is missing, and check before long work that files can be written to it.

    Raises:
        InputError: it cannot be created or written to; folders that were created are removed again.
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
    """Check that a file can be written to a path. No file or folder is left behind.

    Raises:
        InputError: the path is a folder, or its parent folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, and should be a file")
    new = _missing(path.parent)
    writable_folder(path.parent)
    _remove_empty(new)  # it is created again with the file
    return path


def _missing(folder: Path) -> list[Path]:
    """The folders of a path that do not exist yet, the deepest first."""
    return [place for place in (folder, *folder.parents) if not os.path.lexists(place)]


def _remove_empty(folders: list[Path]) -> None:
    for place in folders:
        with contextlib.suppress(OSError):
            place.rmdir()


@contextlib.contextmanager
def claimed(folder: str | Path, result: Path | None = None) -> Iterator[Path]:
    """A context with a folder for results, as `writable_folder`, locked against other runs.

    If the work fails or is interrupted, folders that were created for it and are empty are removed again.

    Args:
        result: the file that the folder belongs to: messages name it in place of the folder.

    Raises:
        InputError: the folder cannot be written to, or another run is writing into it.
    """
    new = _missing(Path(folder))
    folder = writable_folder(folder)
    handle = _lock(folder, f"{result}; choose another file" if result else f"{folder}; choose another folder")
    try:
        yield folder
    except BaseException:
        _remove_empty(new)
        raise
    finally:
        if handle is not None:
            os.close(handle)


def _lock(folder: Path, shown: str) -> int | None:
    """Lock a folder until its file descriptor is closed or the process ends; None if there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"another run is writing into {shown}, or wait for it") from None
    except OSError:  # some network file systems have no locks
        os.close(handle)
        return None
    return handle


def scratch_files(path: Path) -> list[Path]:
    """Files that `written_whole` left when a process was killed while it wrote to `path`."""
    return [file for file in path.parent.glob(f"{glob.escape(path.name)}.*.part")
            if re.fullmatch(r"\d+-\d+", file.name.removeprefix(f"{path.name}.").removesuffix(".part"))]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A context with a scratch path to write to, which is renamed to `path` at the end, so no partial file remains.

    What is written reaches the disk before it has its name: after a power failure too the file is the old or the new.

    Raises:
        MachineError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield scratch
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            raise MachineError(f"no space left for {path}: free some and call again, nothing is lost") from None
        raise
    finally:
        scratch.unlink(missing_ok=True)
