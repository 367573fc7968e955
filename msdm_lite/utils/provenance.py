"""Where a result comes from: the git commit of the code, and the command line that makes it again."""

import shlex
import shutil
import subprocess

from msdm_lite.utils import paths


def commit() -> str:
    """The git commit of the code that runs, or "unknown": it was installed, not cloned, or git is not."""
    if not (paths.PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=paths.PACKAGE, capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def command_line(*words: str, **settings: object) -> str:
    """The line that makes a result again: its words, and --name value for settings that are neither None nor empty."""
    given = list(words)
    for name, value in settings.items():
        values = value if isinstance(value, list | tuple) else [] if value is None else [value]
        given += [f"--{name.replace('_', '-')}", *map(command_word, values)] if values else []
    return shlex.join(given)


def command_word(value: object) -> str:
    """A value on a command line: exact, and short where that is exact."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
