"""Functions that run and check the commands of recorded results: what `msdm-lite results` calls.

A result is up to date while the model that it names is the shipped one, and its settings are those of its command.
`make` leaves results that are up to date alone, so that a stopped run resumes. `check` computes some results again and
compares every number with the record. `code_notice` says whether the code that computed a result has changed since:
such a result may still be right, so it is not computed again by itself, and `check` stamps it anew if its numbers are
the same. Chapters read the files.
Chapter: `book/10-measuring.ipynb`.
"""

import importlib.util
import json
import math
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from ctypes.util import find_library
from datetime import date
from functools import cache
from pathlib import Path

from tqdm import tqdm

from msdm_lite.data import corpus
from msdm_lite.data.recordings import LICENCES
from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.models import weights
from msdm_lite.studies.recorded_commands import COMMANDS, other_settings
from msdm_lite.utils import paths, provenance
from msdm_lite.utils.files import claimed, written_whole

# Keys that say where, when and how fast a result was computed. They are not compared
CIRCUMSTANCES = {"wall_seconds", "date", "commit", "version", "device", "processor", "command", "model_record",
                 "sketch_record", "learning", "precision", "tolerance", "what", "history", "dirty", "code", "checked"}
# What records of separated songs have had since there are both scores
NEWER = {"per_window", "published_windows", "left_out"}


def possible(name: str) -> bool:
    """Whether a result can be computed here.

    Some results need the rendered corpus (`msdm-lite data build`), some FluidSynth, some the fetched recordings.
    """
    if " domain-shift " in COMMANDS[name]:
        return importlib.util.find_spec("fluidsynth") is not None and find_library("fluidsynth") is not None
    if "widening" in COMMANDS[name]:
        return all(song.ready for fonts in (True, False) for song in corpus.songs(variations=1, soundfonts=fonts))
    if " real-recordings " in COMMANDS[name] and not all(
            paths.cache("debian", package).is_dir() for package in LICENCES):
        return False
    if " joint-vs-mixture " in COMMANDS[name]:
        return all(song.ready for song in corpus.songs())
    needs = any(word in COMMANDS[name] for word in ("--songs", " distance ", " real-recordings "))
    return not needs or all(song.ready for song in corpus.songs("test"))


def place(name: str) -> Path:
    """The file of a result."""
    return paths.data_folder() / "results" / f"{name}.json"


def state(name: str) -> str:
    """"missing", "stale" (other weights than those that ship, or other settings than its command's) or "up to date"."""
    if not records.exists(name):
        return "missing"
    if other_settings(name):
        return "stale"
    record = records.read(name)
    for model, kept in ((record.get("model"), "model_record"),
                        (record.get("settings", {}).get("sketch"), "sketch_record")):
        if model in weights.shipped():
            now = _training_record(model, paths.data_folder())
            if any(now.get(key) != value for key, value in record.get(kept, {"steps": None}).items()):
                return "stale"
    return "up to date"


@cache
def _training_record(model: str, folder: Path) -> dict:
    return weights.record(model)  # of a folder of models it loads them all


def code_notice(name: str) -> str:
    """"code changed (MODULES)" or "code unknown" if that may concern a result on record, else an empty text.

    A record from before fingerprints, or whose module is not here, is of unknown code. See `utils.fingerprint`.
    """
    kept = records.read(name).get("code") if records.exists(name) else {}
    if kept == {}:
        return ""
    changed = provenance.code_changes(kept) if kept else None
    if changed is None:
        return "code unknown"
    return f"code changed ({', '.join(changed[:3])}{', ...' if changed[3:] else ''})" if changed else ""


def overview() -> list[str]:
    """One line for each result with a command: its state, a notice of its code, and what to run."""
    check = "`msdm-lite results --check {}` compares and stamps"
    lines, unknown = [], 0
    for name in COMMANDS:
        notice = code_notice(name)
        unknown += notice == "code unknown"
        lines.append(f"{name}: {state(name)}" + (f"; {notice}" if notice else "")
                     + (f": {check.format(name)}" if notice.startswith("code changed") else ""))
    return lines + [f"code unknown, {unknown} results: recorded without a fingerprint of the code; "
                    f"{check.format('NAME')}"] * bool(unknown)


def run(name: str, out: Path) -> None:
    """Run the command of one result in a process of its own, which writes it to `out`.

    Raises:
        InputError: the command failed, and the message has its last line; or its script is not in this installation.
    """
    words = shlex.split(COMMANDS[name])
    words = [sys.executable, *(["-m", "msdm_lite"] if words[0] == "msdm-lite" else []), *words[1:], "--out", str(out)]
    root = paths.PACKAGE.parent
    if "benchmarks/" in words[1] and not (root / words[1]).exists():
        raise InputError(f"{name} is made by {words[1]}, which is in the repository and not in this installation")
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    if done.returncode or not out.exists():
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise InputError(f"{name}: {said[-1]}")
    made = json.loads(out.read_text()) | {"command": f"{COMMANDS[name]} --out data/results/{name}.json"}
    records.save(made, out)


def make(names: Sequence[str] = (), everything: bool = False, progress: bool = True) -> list[Path]:
    """Compute the results of these names, or those that are missing or stale if there are none. Returns their files.

    Args:
        everything: compute those that are up to date too.

    Raises:
        InputError: an unknown name, or a command that fails; the results before it are kept.
    """
    require_known(names)
    wanted = [name for name in names or COMMANDS if names or everything or state(name) != "up to date"]
    made = []
    for name in (bar := tqdm(wanted, unit="result", disable=not progress)):
        bar.set_description(name)
        unfinished = paths.cache("results", name, f"{name}.json")  # kept if the command is stopped, which may resume
        with claimed(unfinished.parent, place(name)):
            run(name, unfinished)
            with written_whole(place(name)) as scratch:
                shutil.copyfile(unfinished, scratch)
            unfinished.unlink()
        made.append(place(name))
    return made


def numbers(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of a result with its path, such as "/clips/a/0"; without CIRCUMSTANCES at the top."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if at or key not in CIRCUMSTANCES:
                yield from numbers(inner, f"{at}/{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from numbers(inner, f"{at}/{i}")
    else:
        yield at, value


def differences(before: dict, after: dict) -> list[str]:
    """Where two computations of one result differ by more than the tolerance of the first, as one line each.

    Measures of `NEWER` that only the second has are left out. See `records.allowed_difference` for the kinds of
    tolerance.
    """
    tolerance = before.get("tolerance", records.TOLERANCE)
    old = dict(numbers(before))
    new = dict(numbers({key: value for key, value in after.items() if key in before or key not in NEWER}))
    found = [f"{at} is in one of them only" for at in sorted(old.keys() ^ new.keys())]
    for at in old.keys() & new.keys():
        a, b = old[at], new[at]
        if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool):
            if not (math.isnan(a) and math.isnan(b)) and not abs(a - b) <= records.allowed_difference(tolerance, at, a):
                found.append(f"{at}: {a} on record, {b} now")
        elif a != b:
            found.append(f"{at}: {a!r} on record, {b!r} now")
    return found


def _quick(record: dict, seconds: float) -> bool:
    """Whether a result took at most `seconds`, by its record; False for one that was made on a GPU if there is none."""
    if record.get("device") == "cuda":
        import torch

        if not torch.cuda.is_available():
            return False
    return record.get("wall_seconds", math.inf) <= seconds


def check(names: Sequence[str] = (), count: int = 2, seconds: float = 300.0, seed: int | None = None,
          progress: bool = True) -> dict[str, list[str]]:
    """Compute some results again and compare them with the record.

    Those that are named and are as recorded are stamped (`stamp`). Those that are drawn are left as they are; only
    results that are `possible` here, and recorded with the settings of their command, are drawn. Returns
    {name: differences}, an empty list where there are none.

    Args:
        names: the results.
        count: without names: number of results, drawn at random.
        seconds: only results that took at most that long, by their record; those of a GPU only where there is one.
        seed: of the draw.

    Raises:
        InputError: an unknown name, or one without a record; no result took so little time; the command of one fails.
    """
    require_known(names)
    if missing := [name for name in names if not records.exists(name)]:
        raise InputError(f"there is no record of {missing[0]} to compare with: msdm-lite results {missing[0]}")
    drawn = list(names) or _draw(count, seconds, seed)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (bar := tqdm(drawn, unit="result", disable=not progress)):
            bar.set_description(name)
            out = Path(folder) / f"{name}.json"
            run(name, out)
            again = json.loads(out.read_text())
            found[name] = differences(records.read(name), records.current(again))
            if names and not found[name]:
                stamp(name, again)
    return found


def _draw(count: int, seconds: float, seed: int | None) -> list[str]:
    cheap = [name for name in COMMANDS if records.exists(name) and _quick(records.read(name), seconds)
             and not other_settings(name) and possible(name)]
    if not cheap or count < 1:
        raise InputError(f"no result on record took less than {seconds:.0f} s")
    return random.Random(seed).sample(cheap, min(count, len(cheap)))


def stamp(name: str, again: dict) -> None:
    """Write into a record that the code of `again`, a second computation of it, gives the same numbers.

    Its fingerprint, version, commit and dirty files replace those of the record; `checked` is the day. Nothing else in
    the file changes.
    """
    kept = json.loads(place(name).read_text())
    stamped = {key: again[key] for key in ("version", "commit", "dirty", "code") if key in again}
    records.save(kept | stamped | {"checked": date.today().isoformat()}, place(name))


def require_known(names: Sequence[str]) -> None:
    """Raise InputError if a result of these names has no command."""
    if unknown := set(names) - set(COMMANDS):
        raise InputError(f"there is no result {sorted(unknown)[0]!r}; there are {', '.join(COMMANDS)}")
