"""Records: one JSON file per result in data/results/, with how it was computed. The chapters read them.

`PartialResults` keeps the finished parts of a long measurement, so that a stopped measurement can be resumed. Chapter:
`book/10-measuring.ipynb`.
"""

import hashlib
import json
import logging
import pickle
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from torch import Tensor

import msdm_lite
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.utils import device, paths
from msdm_lite.utils.checkpoints import load_tensors, save_tensors
from msdm_lite.utils.files import scratch_files, written_whole
from msdm_lite.utils.provenance import commit

log = logging.getLogger(__name__)
TOLERANCE = 0.1  # of a number, most of them in dB: by how much the same command may differ on another machine
SLIGHT = 0.02  # of a number between 0 and 1, such as a share or an agreement
Tolerance = float | str | Mapping[str, float | str]  # see `allowed_difference`

# Names in older records -> names in the code and the chapters. The files themselves are not changed
RENAMED_KEYS = {
    "published": "per_song",  # silent stems count, as published, and songs have one mean each, which is ours
    "judged": "quality",
    "dealt": "shuffled",
    "strangers": "mismatched",
    "worlds": "domains",
    "constrained": "constrained_stem",
    "out_of_phase": "randomised_signs",
    "mixture known, ODE": "mixture-constrained, ODE",
    "mixture known, churn": "mixture-constrained, churn",
    "mixture known, Heun": "mixture-constrained, Heun",
    "mixture known, DPM-Solver++": "mixture-constrained, DPM-Solver++",
    "mixture known, DPM-Solver++, mean of 8": "mixture-constrained, DPM-Solver++, mean of 8",
    "mixture known: shaped noise": "mixture: zero-sum noise",
    "mixture known: shaped noise from sigma 160, Heun": "mixture: zero-sum noise from sigma 160, Heun",
    "mixture known: shaped noise, Heun": "mixture: zero-sum noise, Heun",
    "mixture known: shaped noise, DPM-Solver++": "mixture: zero-sum noise, DPM-Solver++",
    "mixture known: Dirac": "mixture: Dirac",
    "mixture known: Dirac, churn": "mixture: Dirac, churn",
    "mixture known: Dirac, churn, R = 2": "mixture: Dirac, churn, R = 2",
    "mixture known: Dirac, rotating, churn": "mixture: Dirac, rotating, churn",
    "mixture known: Gaussian": "mixture: Gaussian",
    "mixture known: Gaussian, churn": "mixture: Gaussian, churn",
    "mixture known: Wiener shares": "mixture: Wiener shares",
    "mixture known: Wiener shares, churn": "mixture: Wiener shares, churn",
    "mixture known: PiGDM": "mixture: PiGDM",
    "mixture known: PiGDM, churn": "mixture: PiGDM, churn",
    "mixture known: ProjDiff": "mixture: ProjDiff",
    "mixture known: told, weight 1": "mixture: conditional denoiser, weight 1",
    "mixture known: told, weight 2": "mixture: conditional denoiser, weight 2",
    "stem known: shaped noise": "stem: noise on the others",
    "stem known: replacement": "stem: replacement",
    "stem known: replacement, churn": "stem: replacement, churn",
    "stem known: replacement, R = 4": "stem: replacement, R = 4",
    "stem known: replacement, R = 16": "stem: replacement, R = 16",
    "both known: shaped noise": "both: constrained noise",
    "both known: replacement and Dirac": "both: replacement and Dirac",
    "both known: replacement and Gaussian": "both: replacement and Gaussian",
    "mixture known: euler": "mixture: euler",
    "stem known: euler": "stem: euler",
    "both known: euler": "both: euler",
    "mixture known: heun": "mixture: heun",
    "stem known: heun": "stem: heun",
    "both known: heun": "both: heun",
    "mixture known: dpm-solver": "mixture: dpm-solver",
    "stem known: dpm-solver": "stem: dpm-solver",
    "both known: dpm-solver": "both: dpm-solver",
}
RENAMED_VALUES = {
    "mixture-known": "mixture-constrained",
    "stems-known": "stems-given",
    "paint": "decode",
}
# values under the key "setting"
RENAMED_SETTINGS = {"high": "sigma_max", "low": "sigma_min", "constrained": "constrained_stem"}


def read(name: str) -> dict:
    """A recorded result by its name, such as "separation-dirac", with current names in place of older ones.

    Raises:
        InputError: there is no result of that name.
    """
    return current(json.loads(paths.data("results", f"{name}.json").read_text()))


def current(value: Any, key: str = "") -> Any:
    """A record, or the part of one under `key`, with current names in place of older ones."""
    if isinstance(value, dict):
        return {RENAMED_KEYS.get(name, name): current(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [current(inner, key) for inner in value]
    if isinstance(value, str):
        return RENAMED_SETTINGS.get(value, value) if key == "setting" else RENAMED_VALUES.get(value, value)
    return value


def exists(name: str) -> bool:
    """Whether there is a recorded result of that name."""
    return (paths.data_folder() / "results" / f"{name}.json").exists()


def save(result: dict, path: str | Path) -> Path:
    """Write a result as JSON; an interrupted call leaves no partial file. Returns the path."""
    path = Path(path)
    with written_whole(path) as scratch:
        scratch.write_text(json.dumps(result, indent=1, allow_nan=True) + "\n")
    return path


def circumstances(model: StemModel | None, begun: float, sketcher: StemModel | None = None,
                  tolerance: Tolerance = TOLERANCE, precision: str | None = None, origin: dict | None = None) -> dict:
    """The part of a record that says on which machine, when, and with which code and weights it was computed.

    Args:
        model: the model that was used; None if there was none.
        begun: `time.perf_counter()` at the beginning.
        sketcher: the model of sketches that was used, if any.
        tolerance: by how much `msdm-lite results --check` lets numbers differ, see `allowed_difference`.
        precision: the arithmetic that was used, if it is not the one in which models sample.
        origin: the code that was used, as `provenance.origin` gives it.
    """
    kind = model.device.type if model else "cpu"
    return {"device": kind, "processor": device.processor(kind),
            "precision": precision or device.precision(kind), "tolerance": tolerance,
            "wall_seconds": round(time.perf_counter() - begun, 1),
            **(origin or {"version": msdm_lite.__version__, "commit": commit()}), "date": date.today().isoformat(),
            **weights_records(model, sketcher)}


def weights_records(model: StemModel | None, sketcher: StemModel | None = None) -> dict:
    """What a record says of the weights: steps, minutes and commit of the training of each model."""
    def brief(model: StemModel) -> dict:
        return {k: model.record.get(k) for k in ("steps", "minutes", "commit")}

    return {"model_record": brief(model) if model else {}, **({"sketch_record": brief(sketcher)} if sketcher else {})}


def allowed_difference(tolerance: Tolerance, at: str, number: float) -> float:
    """By how much a recorded number at the path `at` ("/its/path") may differ when its command is run again.

    A tolerance is a number; or a text such as "10 %", relative to the recorded number; or a mapping from names in the
    path to such tolerances: the innermost name counts, and "" stands for all other paths.
    """
    if isinstance(tolerance, Mapping):
        tolerance = next(tolerance[name] for name in reversed(at.split("/")) if name in tolerance)
    if isinstance(tolerance, str):
        return float(tolerance.removesuffix("%")) / 100 * abs(number)
    return tolerance


Tensors = dict[str, Tensor]
T = TypeVar("T")


class Cached(Protocol):
    """A function that gives the part of a name, and calls `make` only if it has none. `Run.keep` is one."""

    def __call__(self, name: str, make: Callable[[], T]) -> T: ...


def compute(name: str, make: Callable[[], T]) -> T:
    """Compute a part and keep no file of it."""
    return make()


class PartialResults:
    """Named parts of a result, in files of the folder `NAME-parts` beside `NAME.json`.

    A part is a tensor, a number, a text, None, or a list or dict of such. `seconds` is the time that the parts found
    there took to compute: the time of a result includes earlier runs.

    Args:
        out: the file of the result that the parts belong to.
        head: describes the measurement. Parts of a measurement with another head are removed, and a warning says so.

    Raises:
        InputError: the folder exists and does not hold parts of a result.
    """

    def __init__(self, out: Path, head: dict):
        self.folder, self.seconds = self.folder_of(out), 0.0
        said, head_file = json.dumps(head, indent=1), self.folder / "head.json"
        unfinished = set(scratch_files(head_file))  # of a run that was killed before it had a head
        if self.folder.exists() and set(self.folder.iterdir()) - unfinished and not head_file.exists():
            raise InputError(f"{self.folder} is there, and holds no parts of a result: choose another file")
        if head_file.exists() and head_file.read_text() != said:
            before = json.loads(head_file.read_text())
            changed = [key for key in {**head, **before} if head.get(key) != before.get(key)]
            log.warning("%s has parts of another %s: they are computed again", self.folder, ", ".join(changed))
            _empty(self.folder)
        with written_whole(head_file) as scratch:
            scratch.write_text(said)

    @staticmethod
    def folder_of(out: Path) -> Path:
        """The folder of the parts of the result that is written to `out`."""
        return out.with_name(f"{out.stem}-parts")

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """The part of that name: read from its file if there is one, else computed by `make` and written."""
        path = self._file(name)
        if path.exists():
            kept = load_tensors(path)
            self.seconds += kept["seconds"]
            return kept["found"]
        begun = time.perf_counter()
        found = make()
        with written_whole(path) as scratch:
            save_tensors({"found": found, "seconds": time.perf_counter() - begun}, scratch)
            try:
                load_tensors(scratch)  # what could not be read again is refused now
            except pickle.UnpicklingError:
                raise InputError(f"the part {name!r} of a result can hold tensors, numbers, texts, lists and dicts, "
                                 "and nothing else") from None
        return found

    def has(self, name: str) -> bool:
        """Whether there is a part of that name."""
        return self._file(name).exists()

    def _file(self, name: str) -> Path:
        named = quote(name, safe="+ ,=")
        if len(named) > 150:  # a file's name has at most 255 bytes
            named = f"{named[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self.folder / f"{named}.pt"

    def done(self) -> None:
        """Remove the parts, when the result has been written."""
        remove_parts(self.folder)


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts. If the process is killed meanwhile, what is left can still be used or removed.

    Files that are no parts stay, and then the folder does too.
    """
    _empty(folder)
    if not any(folder.iterdir()):
        folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove the parts but not the folder, which may be locked; the head last: it says whose the others are."""
    ours = [path for path in folder.iterdir() if path.suffix in (".pt", ".part")]
    for path in [*ours, folder / "head.json"]:
        path.unlink(missing_ok=True)
