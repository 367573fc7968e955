"""The command `msdm-lite train`. Chapter: `book/05-training.ipynb`."""

import os
import sys
from dataclasses import asdict, replace
from typing import Annotated

import tyro

from msdm_lite.cli import options
from msdm_lite.training.recipe import Recipe, Running


def train(out: options.Folder, recipe: Annotated[Recipe, tyro.conf.arg(name="")],
          running: Annotated[Running, tyro.conf.arg(name="")]) -> None:
    """Train a model on the corpus (`msdm-lite data build` renders it) or on a folder of stems.

    A run can be killed and resumed. Several GPUs or machines: `torchrun --nproc_per_node 8 -m msdm_lite train` with
    these options, or `accelerate launch`.

    Args:
        out: folder for the checkpoint, the log (JSON lines and TensorBoard) and the weights.
        recipe: what is learned, and from what.
        running: how the run is carried out.
    """
    from msdm_lite.training import loop

    shown = replace(running, progress=running.progress and sys.stderr.isatty())
    path = loop.train(recipe, out, **asdict(shown))
    if os.environ.get("RANK", "0") == "0":  # the first of several processes writes the weights
        print(path)
