"""Results on record: one JSON file each in data/results/, with all that says how it was made. Chapters read them.

Chapter: `book/10-measuring.ipynb`.
"""

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import msdm_lite
from msdm_lite import device, resources
from msdm_lite.face import StemModel

TOLERANCE = 0.1  # of a number, most of them dB: what the same command may make otherwise on another machine
SLIGHT = 0.02  # of what lies between zero and one, as shares and agreements do
Tolerance = float | str | Mapping[str, float | str]  # see `allowed`


def result(name: str) -> dict:
    """A recorded result by its name, such as "separation-dirac".

    Raises:
        InputError: there is none of that name.
    """
    return json.loads(resources.data("results", f"{name}.json").read_text())


def there(name: str) -> bool:
    """Is there a recorded result of that name?"""
    return (resources.data_folder() / "results" / f"{name}.json").exists()


def save(result: dict, path: str | Path) -> Path:
    """Write a result as JSON, whole or not at all."""
    path = Path(path)
    with resources.whole(path) as scratch:
        scratch.write_text(json.dumps(result, indent=1, allow_nan=True) + "\n")
    return path


def commit() -> str:
    """The git commit of the code that runs, or "unknown": it was installed, not cloned, or git is not."""
    if not (resources.PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=resources.PACKAGE, capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def circumstances(model: StemModel | None, begun: float, sketcher: StemModel | None = None,
                  tolerance: Tolerance = TOLERANCE, precision: str | None = None) -> dict:
    """Where, when, by which code and with which weights a result is made that was begun at `time.perf_counter()`.

    Weights of None are those of no model. `tolerance` is what `msdm-lite results --check` lets a number differ by;
    `precision` what was computed in, if it is not what models sample in.
    """
    def brief(model: StemModel) -> dict:
        return {k: model.record.get(k) for k in ("steps", "minutes", "commit")}

    kind = model.device.type if model else "cpu"
    return {"device": kind, "processor": device.processor(kind),
            "precision": precision or device.precision(kind), "tolerance": tolerance,
            "wall_seconds": round(time.perf_counter() - begun, 1),
            "version": msdm_lite.__version__, "commit": commit(), "date": date.today().isoformat(),
            "model_record": brief(model) if model else {},
            **({"sketch_record": brief(sketcher)} if sketcher else {})}


def allowed(tolerance: Tolerance, at: str, number: float) -> float:
    """By how much a number on record, which is found at "/its/path", may differ where its command is run again.

    A tolerance is a number; or a text such as "10 %", of the number on record; or one of these for each name that a
    path may have, of which the innermost counts, and "" for all other paths.
    """
    if isinstance(tolerance, Mapping):
        tolerance = next(tolerance[name] for name in reversed(at.split("/")) if name in tolerance)
    if isinstance(tolerance, str):
        return float(tolerance.removesuffix("%")) / 100 * abs(number)
    return tolerance


def command(*words: str, **settings: object) -> str:
    """The line that makes a result again: its words, and --name value for settings that are neither None nor empty."""
    given = list(words)
    for name, value in settings.items():
        values = value if isinstance(value, list | tuple) else [] if value is None else [value]
        given += [f"--{name}", *map(word, values)] if values else []
    return shlex.join(given)


def word(value: object) -> str:
    """A value on a command line: exact, and short where that is exact."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
