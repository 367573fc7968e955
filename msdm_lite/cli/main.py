"""The command line `msdm-lite COMMAND`.

Exit codes: 0 success, 1 unexpected error or some of several files left out, 2 bad input, 130 interrupted.
Chapter: `book/13-scaling-up.ipynb`.
"""

import difflib
import importlib
import sys

import msdm_lite
from msdm_lite.errors import InputError
from msdm_lite.utils import device, plugins
from msdm_lite.utils.terminal import guarded

GROUPS = {
    "music": {"separate": ("inference", "Separate a mix into stems."),
              "generate": ("inference", "Generate stems and their mix."),
              "accompany": ("inference", "Generate the stems that are missing.")},
    "models": {"train": ("train", "Train a model."),
               "evaluate": ("evaluate", "Score a method on clips, songs or generated bands."),
               "models": ("make", "List the models that ship with the package."),
               "methods": ("make", "List the methods of separation, generation and accompaniment.")},
    "records": {"data": ("make", "Build the corpus, the test clips or the data card."),
                "results": ("make", "Compute or check the recorded results.")},
}
COMMANDS = {name: room for group in GROUPS.values() for name, (room, _) in group.items()}


def usage() -> str:
    """The text of `msdm-lite --help`."""
    lines = ["usage: msdm-lite [-h] [--version] [--import MODULE] COMMAND ..."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<11}{text}" for name, (_, text) in commands.items())]
    lines += ["", "--import MODULE  import a module of yours first, by name or file; what it registers can be named",
              "                 in options, and `msdm-lite methods` lists it.",
              "Options of a command: msdm-lite COMMAND --help",
              "Exit codes: 0 success, 1 unexpected error or some of several files left out, 2 bad input,",
              "            130 interrupted."]
    return "\n".join(lines)


def _run(args: list[str]) -> int | None:
    line = tuple(args)
    args = plugins.without_imports(args)
    if not args or args[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if args else sys.stderr)
        sys.exit(0 if args else 2)
    if args[0] == "--version":
        print(f"msdm-lite {msdm_lite.__version__}")
        return None
    if args[0] not in COMMANDS:
        near = difflib.get_close_matches(args[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
        raise InputError(f"unknown command {args[0]}: {hint}")
    import tyro

    from msdm_lite.cli import options

    options.LINE.set(line)
    plugins.load_installed()
    # Only the parser of this command is built: tyro needs about half a second for all of them
    function = getattr(importlib.import_module(f"msdm_lite.cli.{COMMANDS[args[0]]}"), args[0])
    return tyro.cli(function, prog=f"msdm-lite {args[0]}", args=args[1:])


def main(args: list[str] | None = None) -> int:
    """Run a command line (the process's own if None). Returns the exit code, see the top of this module."""
    device.tune()  # before torch makes its first large tensor
    return guarded(lambda: _run(sys.argv[1:] if args is None else list(args)))


def command() -> None:
    """The installed command `msdm-lite`."""
    sys.exit(main())
