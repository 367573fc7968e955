"""Types of options that several commands share, with the names of values and defaults in `--help`.

Chapter: `book/13-scaling-up.ipynb`.
"""

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Literal

import tyro

arg = tyro.conf.arg
METHODS_OWN = "(default: the method's own)"

LINE: ContextVar[tuple[str, ...]] = ContextVar("LINE", default=())  # the words of the command line that is run

Songs = Annotated[tuple[str, ...], arg(metavar="FILE|FOLDER|- ...", help_behavior_hint="(one or more)")]
Inputs = Annotated[tuple[str, ...], arg(metavar="[STEM=]FILE ...", help_behavior_hint="(one or more)")]
Given = Annotated[tuple[str, ...], arg(metavar="[STEM=]FILE", help_behavior_hint="(default: none)")]
Folder = Annotated[Path, arg(metavar="FOLDER")]
Model = Annotated[str, arg(metavar="NAME|FILE|FOLDER")]
Sketcher = Annotated[str | None, arg(metavar="NAME|FILE", help_behavior_hint="(default: none)")]
Seconds = Annotated[float, arg(metavar="SECONDS")]
Count = Annotated[int, arg(metavar="N")]
Seed = Annotated[int, arg(metavar="N")]
Steps = Annotated[int | None, arg(metavar="N", help_behavior_hint=METHODS_OWN)]
Setting = Annotated[float | None, arg(metavar="X", help_behavior_hint=METHODS_OWN)]
Corrections = Annotated[int | None, arg(metavar="R", help_behavior_hint=METHODS_OWN)]
Sampler = Annotated[str | None, arg(metavar="{euler,heun,dpm-solver}", help_behavior_hint=METHODS_OWN)]
Level = Literal["training", "keep"]
Format = Literal["wav", "flac", "mp3"]
Device = Annotated[str, arg(metavar="{auto,cpu,cuda}")]


def one_of(*names: str, otherwise: str) -> object:
    """How `--help` shows an option whose value is one of these names; `otherwise` is its default."""
    return arg(metavar=f"{{{','.join(names)}}}", help_behavior_hint=f"(default: {otherwise})")


def optional(metavar: str, otherwise: str) -> object:
    """How `--help` shows an option that may be left out; `otherwise` is its default."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {otherwise})")
