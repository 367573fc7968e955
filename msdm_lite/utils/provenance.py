"""Provenance of a result: the version, the commit and the files of the code, and the command line that repeats it.

Chapter: `book/10-measuring.ipynb`.
"""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msdm_lite
from msdm_lite.errors import InputError
from msdm_lite.utils import fingerprint, paths, plugins


def _git(*words: str) -> str | None:
    """What git says about the checkout of the running code; None without a checkout or without git."""
    if not (paths.PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        return None
    done = subprocess.run(["git", *words], cwd=paths.PACKAGE.parent, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def commit() -> str:
    """The git commit of the running code, or "unknown" without a checkout or without git."""
    return (_git("rev-parse", "--short", "HEAD") or "unknown").strip()


def changed_files(files: Iterable[Path]) -> list[str]:
    """Those of some files that differ from the commit or are not in it, relative to the checkout, in order of name.

    Files outside of the checkout are left out; without git there are none.
    """
    root = paths.PACKAGE.parent
    inside = [str(path.relative_to(root)) for path in files if path.is_relative_to(root)]
    said = _git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", *inside)
    return sorted(line[3:] for line in (said or "").split("\0") if line)


def origin(of: str, also: Iterable[str] = ()) -> dict:
    """Which code computes a result: call it before the work, since files may change meanwhile.

    What is returned: `version` of the package, `commit`, `dirty` (`changed_files` among those that the result depends
    on), and `code`, as `code` gives it.

    Args:
        of: the module that computes the result: its name, or the path of its file.
        also: further modules that the result depends on, beside those that a user has imported (`utils.plugins`).

    Raises:
        InputError: there is no such module.
    """
    files, names = fingerprint.files(of), list(also)
    for name in plugins.loaded():
        with contextlib.suppress(InputError):  # an installed plugin without sources
            fingerprint.files(name)
            names.append(name)
    for name in names:
        files |= fingerprint.files(name)
    return {"version": msdm_lite.__version__, "commit": commit(), "dirty": changed_files(files.values()),
            "code": code(of, names)}


def code(of: str, also: Iterable[str] = ()) -> dict:
    """The fingerprint of the code of a result: `of` and `also`, as for `origin`; `modules`, as `fingerprint.modules`.

    Raises:
        InputError: one of them is not here.
    """
    def named(module: str) -> str:
        path = fingerprint.located(module)
        return f"msdm_lite.{fingerprint.title(path)}" if path.is_relative_to(paths.PACKAGE) else fingerprint.title(path)

    more = sorted(set(map(named, also)) - {named(of)})
    found = fingerprint.modules(of)
    for name in more:
        found |= fingerprint.modules(name)
    return {"of": named(of), **({"also": more} if more else {}), "modules": dict(sorted(found.items()))}


def code_changes(kept: dict) -> list[str] | None:
    """The modules that a record depends on and that have changed since, or are new, or are gone; sorted.

    Args:
        kept: the `code` of the record.

    Returns:
        Their names; None if the module that computed the record is not here, so that nothing can be said.
    """
    try:
        now = code(kept["of"], kept.get("also", ()))["modules"]
    except InputError:
        return None
    before = kept["modules"]
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))


def command_line(*words: str, **settings: object) -> str:
    """The command line that repeats a result: the words, and --name value for settings that are not None or empty."""
    given = list(words)
    for name, value in settings.items():
        values = value if isinstance(value, list | tuple) else [] if value is None else [value]
        given += [f"--{name.replace('_', '-')}", *map(command_word, values)] if values else []
    return shlex.join(given)


def command_word(value: object) -> str:
    """A value on a command line: exact, and in short form where that is exact."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
