"""The runner of studies: it gives each the same command line, resume, lock, seeds and provenance.

A study is a function `measure(run, ...) -> dict`. Its parameters after `run` are its settings: the command line is made
from them, and the recorded command is made from their values. `@study(NAME)` registers it and turns it into a function
`(out, ...)` that runs it and writes what it returns, with how it was computed, as a JSON file::

    from msdm_lite.studies.runner import Run, study

    @study("loudness", measures="RMS of the shipped clips")
    def main(run: Run, clips: int = 24) -> dict:
        return {"rms": [run.keep(name, lambda: rms_of(name)) for name in names[:clips]]}

`python -m msdm_lite.studies --import FILE.py loudness --out loudness.json` runs it from a user's file. Chapter:
`book/10-measuring.ipynb`.
"""

import importlib
import inspect
import json
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
import tyro

from msdm_lite.diffusion.noise import seed_of
from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.evaluation.records import TOLERANCE, PartialResults, T, Tolerance
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.utils import files, plugins, provenance
from msdm_lite.utils.registry import Registry

Out = Annotated[Path, tyro.conf.arg(metavar="FILE", help="the JSON file of the result; until it is written, partial "
                                                         "results are in a folder beside it")]
Measure = Callable[..., dict]  # of a run and of the settings


class Run:
    """One run of a study.

    Attributes:
        out: the file of the result.
        settings: the settings of the study, by name.
        seed: that of the settings, 0 if the study has none.
        model, sketcher: the models that the record names; `load` sets the first.
        precision: the arithmetic that was used, if it is not the one in which models sample.
    """

    def __init__(self, of: "Study", out: Path, settings: Mapping[str, Any]):
        self.out, self.settings, self.seed = out, dict(settings), int(settings.get("seed") or 0)
        self.model: StemModel | None = None
        self.sketcher: StemModel | None = None
        self.precision: str | None = None
        self._parts: PartialResults | None = None
        self._at_end: list[Callable[[], object]] = []
        self._study, self._begun, self._origin = of, time.perf_counter(), provenance.origin(of.module)

    def load(self, name: str | Path, device: str = "auto") -> StemModel:
        """Load the model that the study measures, by a shipped name or a path; the record names its training.

        Raises:
            InputError: there is no such model or device.
        """
        self.model = weights.load(name, device)
        self._origin = provenance.origin(self._study.module, [weights.__name__])
        return self.model

    def generator(self, name: str = "") -> torch.Generator:
        """Random numbers for the part of that name: they depend on the seed and the name, and on nothing before."""
        return torch.Generator().manual_seed(seed_of(self.seed, zlib.crc32(name.encode())))

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """A part of the result: read from its file if an earlier run, which was stopped, computed it; else computed.

        Parts of other settings, weights or code do not count. Load models before the first part.

        Args:
            make: returns tensors, numbers, texts, None, or lists or dicts of such.

        Raises:
            InputError: the folder of the parts is somebody else's, or the part holds something else.
        """
        if self._parts is None:
            self._parts = PartialResults(self.out, json.loads(json.dumps({
                "study": self._study.name, **self.settings,
                **records.weights_records(self.model, self.sketcher),
                "code": self._origin["code"]["modules"]}, default=str)))
        return self._parts.keep(name, make)

    def at_end(self, do: Callable[[], object]) -> None:
        """Call a function when the result has been written, such as one that removes a folder."""
        self._at_end.append(do)

    def record(self, found: dict) -> dict:
        """The record of the result: what the study found, how it was computed, and the command that repeats it.

        A study may give its own `wall_seconds`; else it is the time of this run and of the parts that it read.
        """
        about: dict[str, Any] = {"what": self._study.measures}
        if "model" in self.settings:
            about["model"] = str(self.settings["model"])
        earlier = self._parts.seconds if self._parts else 0.0
        where = records.circumstances(self.model, self._begun - earlier, self.sketcher, self._study.tolerance,
                                      self.precision, self._origin)
        own = {key: found[key] for key in ("wall_seconds",) if key in found}
        return {key: value for key, value in about.items() if key not in found} | found | (
            {} if "seed" in found else {"seed": self.seed}) | where | own | {
            "command": self._study.command(self.out, self.settings)}

    def save(self, found: dict) -> None:
        """Write the record, and remove the parts."""
        records.save(self.record(found), self.out)
        if self._parts is not None:
            self._parts.done()
        for do in self._at_end:
            do()


@dataclass(frozen=True)
class Study:
    """A function that measures something, and what is said of it.

    Attributes:
        name: its name on the command line.
        measure: the function, with a `Run` as first parameter; the others are settings.
        records: the names of the records that ship.
        measures: what it measures, in a few words.
        tolerance: by how much numbers may differ when the command runs again, see `records.allowed_difference`.
        unsaid: settings that the recorded command names only where they differ from their defaults.
    """

    name: str
    measure: Measure
    records: tuple[str, ...] = ()
    measures: str = ""
    tolerance: Tolerance = TOLERANCE
    unsaid: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module of the function, or its file where it is run as a script."""
        name = self.measure.__module__
        return name if name != "__main__" else inspect.getfile(self.measure)

    def minutes(self) -> str:
        """The longest computation time in its records, such as "12 min"; "unknown" if none states one."""
        found = [records.read(name) for name in self.records if records.exists(name)]
        seconds = max((record.get("wall_seconds", 0.0) for record in found), default=0.0)
        return f"{seconds / 60:.0f} min" if seconds else "unknown"

    def parameters(self) -> list[inspect.Parameter]:
        """The settings, with their types and defaults."""
        hints = get_type_hints(self.measure, include_extras=True)
        _, *settings = inspect.signature(self.measure).parameters.values()
        return [each.replace(annotation=hints.get(each.name, Any)) for each in settings]

    def command(self, out: Path, settings: Mapping[str, Any]) -> str:
        """The command line that repeats a run, with all settings that are not None."""
        words: dict[str, Any] = {}
        switches: list[str] = []
        for each in self.parameters():
            value = settings[each.name]
            if each.name in self.unsaid and value == each.default:
                continue
            if isinstance(value, bool):
                switches.append(f"--{'' if value else 'no-'}{each.name.replace('_', '-')}")
            else:
                words[each.name] = value
        return provenance.command_line("python", "-m", "msdm_lite.studies", *plugins.flags(), self.name, *switches,
                                       **words, out=out)

    def __call__(self, out: Path, settings: Mapping[str, Any]) -> None:
        """Run the study and write its record to `out`.

        Raises:
            InputError: `out` cannot be written to, is there and holds no result, or another run writes it; and what
                the study raises.
        """
        out = Path(out)
        files.writable_file(out)  # fails before the long computation
        _refuse_what_is_no_result(out)
        folder = PartialResults.folder_of(out)
        with files.claimed(folder, out):
            run = Run(self, out, settings)
            run.save(self.measure(run, **settings))
            with suppress(OSError):
                folder.rmdir()  # if there were no parts


def _refuse_what_is_no_result(out: Path) -> None:
    try:
        result = not out.exists() or isinstance(json.loads(out.read_text()), dict)
    except ValueError:
        result = False
    if not result:
        raise InputError(f"{out} is there and holds no result: name another file")


STUDIES: Registry[Study] = Registry("study")


def study(name: str, *, records: tuple[str, ...] = (), measures: str = "",
          tolerance: Tolerance = TOLERANCE, unsaid: tuple[str, ...] = ()) -> Callable[[Measure], Callable[..., None]]:
    """Register a study under a name; the attributes are those of `Study`.

    The decorated function takes `out`, the file of the result, in place of the run, and returns nothing.

    Raises:
        InputError: another study has that name.
    """
    def register(measure: Measure) -> Callable[..., None]:
        found = Study(name, measure, records, measures or (measure.__doc__ or "").partition("\n")[0], tolerance, unsaid)
        if name in STUDIES and STUDIES[name].module == found.module:  # a module that is imported again
            del STUDIES[name]
        STUDIES.register(name, found)
        return runner_of(found)

    return register


def runner_of(found: Study) -> Callable[..., None]:
    """The function `(out, ...)` that runs a study: the command line is made from its signature."""
    out = inspect.Parameter("out", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Out)
    signature = inspect.Signature([out, *found.parameters()], return_annotation=None)

    def main(*args: Any, **settings: Any) -> None:
        given = signature.bind(*args, **settings)
        given.apply_defaults()
        path = given.arguments.pop("out")
        found(path, given.arguments)

    main.__doc__, main.__module__, main.__name__ = found.measure.__doc__, found.measure.__module__, "main"
    main.__signature__ = signature  # type: ignore[attr-defined]
    main.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()} | {"return": None}
    return main


def command_of(name: str) -> Callable[..., None]:
    """The function `(out, ...)` of the study of that name; of those of the package, its module is imported now.

    Raises:
        InputError: there is no such study.
    """
    if name in BUILT_IN:
        return importlib.import_module(module_of(name)).main
    if name not in STUDIES:
        raise InputError(f"there is no study {name!r}; there are {', '.join(dict.fromkeys((*BUILT_IN, *STUDIES)))}")
    return runner_of(STUDIES[name])


def module_of(name: str) -> str:
    """The module of a study of the package, such as "msdm_lite.studies.domain_shift" of "domain-shift"."""
    return f"msdm_lite.studies.{name.replace('-', '_')}"


def import_all() -> None:
    """Import the modules of all studies of the package, so that `STUDIES` has them."""
    for name in BUILT_IN:
        importlib.import_module(module_of(name))


# Studies of the package, in the order in which they are listed. Each is in the module of its name
BUILT_IN = ("oracle-convergence", "context", "distance", "sampling-ablations", "training-ablations", "joint-vs-mixture",
            "guidance-vs-dirac", "domain-shift", "real-recordings")
