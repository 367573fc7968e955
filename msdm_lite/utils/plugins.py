"""Modules of a user that register guidances, samplers, schedules, methods or studies when they are imported.

Chapter: `book/11-beyond-the-paper.ipynb`.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from msdm_lite.errors import InputError

GROUP = "msdm_lite"  # of entry points, by which an installed package is found without --import
_loaded: dict[str, str] = {}  # name of a module that was imported here -> how `--import` named it, "" if it did not


def load(module: str) -> None:
    """Import a module by its name, which may lie in the current folder, or a file `NAME.py`.

    Raises:
        InputError: there is none, or it raises an error itself.
    """
    path = Path(module)
    sys.path.insert(0, str(Path.cwd()) if path.suffix != ".py" else str(path.resolve().parent))
    try:
        if path.suffix == ".py" and not path.is_file():
            raise InputError(f"{module}: no such file")
        name = path.stem if path.suffix == ".py" else module
        importlib.import_module(name)
        _loaded[name] = module
    except InputError:
        raise
    except Exception as problem:  # whatever a user's module does
        raise InputError(f"{module} cannot be imported ({type(problem).__name__}: {problem})") from problem
    finally:
        sys.path.pop(0)


def without_imports(args: Sequence[str]) -> list[str]:
    """The words of a command line without the leading `--import MODULE`, each of which is imported.

    Raises:
        InputError: a module is missing, or cannot be imported.
    """
    rest = list(args)
    while rest and rest[0].partition("=")[0] == "--import":
        _, given, module = rest[0].partition("=")
        if not given and len(rest) < 2:
            raise InputError("--import needs the name of a module, or a file")
        load(module if given else rest[1])
        rest = rest[1:] if given else rest[2:]
    return rest


def loaded() -> list[str]:
    """The names of the user's modules that were imported: results of this process may depend on them."""
    return [name for name in _loaded if name in sys.modules]


def flags() -> list[str]:
    """The words of a command line that import the same modules again."""
    return [word for name in loaded() if _loaded[name] for word in ("--import", _loaded[name])]


def load_installed() -> None:
    """Import what installed packages register under the entry point group `msdm_lite`.

    Raises:
        InputError: one of them cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
            _loaded.setdefault(point.module, "")
        except Exception as problem:
            raise InputError(f"the plugin {point.name} ({point.value}) cannot be imported "
                             f"({type(problem).__name__}: {problem})") from problem
