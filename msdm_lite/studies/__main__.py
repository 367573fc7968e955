"""`python -m msdm_lite.studies NAME` runs a study; `--list` lists what each writes and how long it takes."""

import importlib
import sys
from dataclasses import dataclass

import tyro

from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.utils.terminal import guarded


@dataclass(frozen=True)
class Study:
    """A module of this folder with a function `main(out, ...)`, the records it has written, and what it measures."""

    module: str
    records: tuple[str, ...]
    measures: str

    def minutes(self) -> str:
        """The longest computation time in its records, such as "12 min"; "unknown" if none states one."""
        found = [records.read(name) for name in self.records if records.exists(name)]
        seconds = max((record.get("wall_seconds", 0.0) for record in found), default=0.0)
        return f"{seconds / 60:.0f} min" if seconds else "unknown"


STUDIES = {
    "oracle-convergence": Study("oracle_convergence", ("oracle-convergence",),
                                "every method's distance to the exact posterior, by NFE"),
    "context": Study("context", ("context-lite",), "denoising error beside the true and beside other stems"),
    "distance": Study("distance", ("distance-generate", "distance-generate-prior", "distance-paint",
                                   "distance-accompany"), "FAD, sub-FAD, copying and diversity of generated bands"),
    "sampling-ablations": Study("sampling_ablations", ("ablations",), "each setting of Dirac and of Gaussian"),
    "training-ablations": Study("training_ablations", ("pairs-widening", "pairs-training"),
                                "paired short training runs, one choice changed in each"),
    "joint-vs-mixture": Study("joint_vs_mixture", ("mixes",), "a joint model against a model of mixtures"),
    "guidance-vs-dirac": Study("guidance_vs_dirac", ("lineup-guided",),
                               "classifier-free guidance against Dirac, by which stems sound"),
    "domain-shift": Study("domain_shift", ("domain-lite", "domain-lite-supervised"),
                          "other soundfonts, instruments and tunings"),
    "real-recordings": Study("real_recordings", ("played-lite", "played-lite-supervised"),
                             "the guitar against the rest, in recordings"),
}


def table() -> str:
    """The studies, two lines each: name, time of the longest record, and what is measured; the records it writes."""
    rows = [f"{'study':<20}{'takes':>9}  measures; writes"]
    rows += [f"{name:<20}{study.minutes():>9}  {study.measures}\n{'':<31}{', '.join(study.records)}"
             for name, study in STUDIES.items()]
    return "\n".join(rows)


def main(args: list[str] | None = None) -> int:
    """Run a study by its name. Returns the exit code, as `guarded` does.

    Args:
        args: name and options; those of the process if None.
    """
    name, *rest = [*(sys.argv[1:] if args is None else args), ""]
    if name in ("--list", ""):
        print(table())
        return 0
    if name in ("-h", "--help"):
        print(f"usage: python -m msdm_lite.studies NAME [OPTIONS]\n\n{table()}\n\nNAME --help lists its options.")
        return 0

    def run() -> object:
        if name not in STUDIES:
            raise InputError(f"there is no study {name!r}; there are {', '.join(STUDIES)}")
        study = importlib.import_module(f"msdm_lite.studies.{STUDIES[name].module}")
        return tyro.cli(study.main, prog=f"python -m msdm_lite.studies {name}", args=rest[:-1])

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
