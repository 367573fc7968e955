"""Provenance of a result: the git commit of the code, and the command line that repeats it."""

import shlex
import shutil
import subprocess

from msdm_lite.utils import paths


def commit() -> str:
    """The git commit of the running code, or "unknown" without a checkout or without git."""
    if not (paths.PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=paths.PACKAGE, capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


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
