"""The command of each recorded result, and functions that run and check them: what `msdm-lite results` calls.

A result is up to date while the model that it names is the shipped one. `make` leaves results that are up to date
alone, so that a stopped run resumes. `check` computes some results again and compares every number with the record.
Chapters read the files. Chapter: `book/10-measuring.ipynb`.
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
from pathlib import Path

from tqdm import tqdm

from msdm_lite.data import corpus
from msdm_lite.data.recordings import LICENCES
from msdm_lite.diffusion.methods import METHODS
from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.models import weights
from msdm_lite.utils import paths
from msdm_lite.utils.files import written_whole

SEPARATE = "msdm-lite evaluate --method"
ONE = "--model lite --clips band --steps 20 --seed 0 --churn 5"  # one sample of the posterior
SAMPLED = "--clips band --steps 50 --seed 0 --churn 10 --corrections 1"
PRIOR = "--steps 50 --churn 10 --corrections 1"  # the same settings, on songs
CORRECTED, TWICE = (prior.replace("--corrections 1", "--corrections 2") for prior in (SAMPLED, PRIOR))
SONGS = "msdm-lite evaluate --songs"
DISTANCE = "python -m msdm_lite.studies distance --task"
LENGTHS = (3, 6, 12, 30, 60, 120)  # seconds
COMMANDS = {
    "oracle-convergence": "python -m msdm_lite.studies oracle-convergence --count 10000",
    "context-lite": "python -m msdm_lite.studies context --model lite --clips 24 --seed 0",
    "separation-mixture-known": f"{SEPARATE} mixture-constrained --model lite --clips band --steps 1 --seed 0",
    "separation-dirac": f"{SEPARATE} dirac --model lite {SAMPLED}",
    "separation-gaussian": f"{SEPARATE} gaussian --model lite {SAMPLED}",
    "separation-sample": f"{SEPARATE} mixture-constrained {ONE}",
    "separation-mean-of-8": f"{SEPARATE} mixture-constrained {ONE} --samples 8",
    "separation-wiener": f"{SEPARATE} wiener --model lite --clips band --steps 50 --seed 0",
    "separation-wiener-mean": f"{SEPARATE} wiener --model lite --clips band --steps 20 --seed 0 --samples 3",
    "separation-projdiff": f"{SEPARATE} projdiff --model lite --clips band --steps 30 --seed 0",
    "separation-pigdm": f"{SEPARATE} pigdm --model lite --clips band --steps 50 --seed 0 --churn 10",
    "separation-drums-given": f"{SEPARATE} mixture-constrained --model lite --clips band --steps 1 --seed 0 "
                              "--given drums",
    "separation-dirac-corrected": f"{SEPARATE} dirac --model lite {CORRECTED}",
    "separation-gaussian-corrected": f"{SEPARATE} gaussian --model lite {CORRECTED}",
    "separation-independent-dirac": f"{SEPARATE} dirac --model lite-independent {SAMPLED}",
    "separation-independent-gaussian": f"{SEPARATE} gaussian --model lite-independent {SAMPLED}",
    "separation-small-dirac": f"{SEPARATE} dirac --model lite-small {SAMPLED}",
    "separation-small-gaussian": f"{SEPARATE} gaussian --model lite-small {SAMPLED}",
    "separation-supervised": f"{SEPARATE} mixture-constrained --model lite-supervised --clips band --steps 1 --seed 0",
    "separation-guided": f"{SEPARATE} guided --model lite-guided --clips band --steps 20 --seed 0",
    "separation-guided-strongly": f"{SEPARATE} guided --model lite-guided --clips band --steps 20 --seed 0 --weight 2",
    "separation-guided-dirac": f"{SEPARATE} dirac --model lite-guided {SAMPLED}",
    "distance-generate": f"{DISTANCE} generate --model lite --sketch lite-sketch --n 300 --seed 0",
    "distance-generate-prior": f"{DISTANCE} generate --model lite --n 300 --seed 0",
    "distance-paint": f"{DISTANCE} decode --model lite --n 300 --seed 0",
    "ablations": "python -m msdm_lite.studies sampling-ablations --model lite --clips band",
    "distance-accompany": f"{DISTANCE} accompany --model lite --n 300 --seconds 3 --seed 0",
    "separation-tiny": f"{SEPARATE} mixture-constrained --model tiny --clips band --steps 1 --seed 0",
    "separation-tiny-wiener": f"{SEPARATE} wiener --model tiny --clips band --steps 50 --seed 0",
    "separation-tiny-wave": f"{SEPARATE} wiener --model tiny-wave --clips band --steps 50 --seed 0",
    **{f"songs-{data}-{title}": f"{SONGS} {data} --seed 0 --seconds 12 --method {method}"
       for data in ("band", "composed")
       for title, method in (("mixture-known", "mixture-constrained --model lite --steps 1"),
                             ("supervised", "mixture-constrained --model lite-supervised --steps 1"),
                             ("sample", "mixture-constrained --model lite --steps 20 --churn 5"),
                             ("mean-of-8", "mixture-constrained --model lite --steps 20 --churn 5 --samples 8"),
                             ("projdiff", "projdiff --model lite --steps 30"),
                             ("pigdm", "pigdm --model lite --steps 50 --churn 10"),
                             ("wiener", "wiener --model lite --steps 50"),
                             ("dirac", f"dirac --model lite {PRIOR}"),
                             ("gaussian", f"gaussian --model lite {PRIOR}"),
                             ("independent-dirac", f"dirac --model lite-independent {PRIOR}"),
                             ("independent-gaussian", f"gaussian --model lite-independent {PRIOR}"),
                             ("independent-dirac-corrected", f"dirac --model lite-independent {TWICE}"),
                             ("independent-gaussian-corrected", f"gaussian --model lite-independent {TWICE}"),
                             ("guided", "guided --model lite-guided --steps 20"),
                             ("guided-dirac", f"dirac --model lite-guided {PRIOR}"), ("ideal-mask", "ideal-mask"))},
    **{f"songs-band-small-{method}": f"{SONGS} band --seed 0 --seconds 12 --method {method} --model lite-small {PRIOR}"
       for method in ("dirac", "gaussian")},
    **{f"published-{which}-{method}{title}":
       f"{SEPARATE} {method} --model {model} --clips band --steps {METHODS[method].steps} --seed 0 "
       f"--churn {METHODS[method].churn:g} --corrections {rounds}"
       for which, model in (("joint", "lite"), ("independent", "lite-independent")) for method in ("dirac", "gaussian")
       for title, rounds in (("", 1), ("-corrected", METHODS[method].corrections))},
    **{f"published-{data}-{which}-{method}{title}":
       f"{SONGS} {data} --seed 0 --seconds 12 --method {method} --model {model} --steps {METHODS[method].steps} "
       f"--churn {METHODS[method].churn:g} --corrections {rounds}"
       for data, which, model in (("band", "joint", "lite"), ("composed", "joint", "lite"),
                                  ("band", "independent", "lite-independent"))
       for method in ("dirac", "gaussian")
       for title, rounds in (("", 1), ("-corrected", METHODS[method].corrections))},
    **{f"length-{model}-{seconds}": f"{SONGS} band --seed 0 --seconds {seconds} --method mixture-constrained "
                                    f"--model {model} --steps 1"
       for model in ("lite", "lite-supervised") for seconds in LENGTHS},
    **{f"domain-{model}": f"python -m msdm_lite.studies domain-shift --model {model} --n 62 --seconds 12"
       for model in ("lite", "lite-supervised")},
    **{f"played-{model}": f"python -m msdm_lite.studies real-recordings --model {model} --seconds 60"
       for model in ("lite", "lite-supervised")},
    "lineup-guided": "python -m msdm_lite.studies guidance-vs-dirac --model lite-guided --n 24 --seed 0",
    "pairs-widening": "python -m msdm_lite.studies training-ablations --preset tiny --data all --steps 750 --seed 0 "
                      "--of widening",
    "mixes": "python -m msdm_lite.studies joint-vs-mixture --steps 5000 --batch 8 --n 300 --seconds 6 --data band "
             "--seed 0",
    "quality-evaluations": "python benchmarks/quality.py --clips 8 --most 50 --model lite --paper",
}
# Keys that say where, when and how fast a result was computed. They are not compared
CIRCUMSTANCES = {"wall_seconds", "date", "commit", "version", "device", "processor", "command", "model_record",
                 "sketch_record", "learning", "precision", "tolerance", "what", "history"}


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
    """"missing", "stale" (made with other weights than those that ship) or "up to date"."""
    if not records.exists(name):
        return "missing"
    record = records.read(name)
    for model, kept in ((record.get("model"), "model_record"),
                        (record.get("settings", {}).get("sketch"), "sketch_record")):
        if model in weights.shipped():
            now = weights.record(model)
            if any(now.get(key) != value for key, value in record.get(kept, {"steps": None}).items()):
                return "stale"
    return "up to date"


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
    if unknown := set(names) - set(COMMANDS):
        raise InputError(f"there is no result {sorted(unknown)[0]!r}; there are {', '.join(COMMANDS)}")
    wanted = [name for name in names or COMMANDS if names or everything or state(name) != "up to date"]
    made = []
    for name in (bar := tqdm(wanted, unit="result", disable=not progress)):
        bar.set_description(name)
        unfinished = paths.cache("results", f"{name}.json")  # it is kept if the command is stopped, which may resume
        unfinished.parent.mkdir(parents=True, exist_ok=True)
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

    See `records.allowed_difference` for the kinds of tolerance.
    """
    tolerance = before.get("tolerance", records.TOLERANCE)
    old, new = dict(numbers(before)), dict(numbers(after))
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


def check(count: int = 2, seconds: float = 300.0, seed: int | None = None, progress: bool = True
          ) -> dict[str, list[str]]:
    """Compute some results again and compare them with the record.

    Only results that are `possible` here are drawn. Returns {name: differences}, an empty list where there are none.

    Args:
        count: number of results, drawn at random.
        seconds: only results that took at most that long, by their record; those of a GPU only where there is one.
        seed: of the draw.

    Raises:
        InputError: no result took so little time, or the command of one fails.
    """
    cheap = [name for name in COMMANDS if records.exists(name) and _quick(records.read(name), seconds)
             and possible(name)]
    if not cheap or count < 1:
        raise InputError(f"no result on record took less than {seconds:.0f} s")
    drawn = random.Random(seed).sample(cheap, min(count, len(cheap)))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (bar := tqdm(drawn, unit="result", disable=not progress)):
            bar.set_description(name)
            out = Path(folder) / f"{name}.json"
            run(name, out)
            found[name] = differences(records.read(name), json.loads(out.read_text()))
    return found
