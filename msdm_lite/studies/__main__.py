"""`python -m msdm_lite.studies NAME` runs a study; `--list` lists what each writes and how long it takes.

`--import MODULE` in front imports a module of yours, by name or file, whose studies can then be named.
"""

import sys

import tyro

from msdm_lite.studies import runner
from msdm_lite.studies.runner import STUDIES
from msdm_lite.utils import device, plugins
from msdm_lite.utils.terminal import guarded


def table() -> str:
    """The studies, two lines each: name, time of the longest record, and what is measured; the records it writes."""
    runner.import_all()
    order = [*runner.BUILT_IN, *(name for name in STUDIES if name not in runner.BUILT_IN)]
    rows = [f"{'study':<20}{'takes':>9}  measures; writes"]
    for name in order:
        study = STUDIES[name]
        rows += [f"{name:<20}{study.minutes():>9}  {study.measures}"]
        rows += [f"{'':<31}{', '.join(study.records)}"] if study.records else []
    return "\n".join(rows)


def run(args: list[str]) -> None:
    """Run a study by a command line: its name, and its options.

    Raises:
        InputError: there is no such study, and what the study raises.
    """
    name, *rest = [*plugins.without_imports(args), ""]
    plugins.load_installed()
    if name in ("--list", ""):
        print(table())
    elif name in ("-h", "--help"):
        print("usage: python -m msdm_lite.studies [--import MODULE] NAME [OPTIONS]\n\n"
              f"{table()}\n\nNAME --help lists its options.")
    else:
        tyro.cli(runner.command_of(name), prog=f"python -m msdm_lite.studies {name}", args=rest[:-1])


def main(args: list[str] | None = None) -> int:
    """Run a study by its name. Returns the exit code, as `guarded` does.

    Args:
        args: name and options; those of the process if None.
    """
    device.tune()
    return guarded(lambda: run(list(sys.argv[1:] if args is None else args)))


if __name__ == "__main__":
    sys.exit(main())
