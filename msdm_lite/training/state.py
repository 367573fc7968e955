"""The state of a training run, and its checkpoint. Chapter: `book/05-training.ipynb`."""

import logging
import pickle
import shutil
import struct
import time
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from msdm_lite.errors import InputError, MachineError
from msdm_lite.models.base import StemModel
from msdm_lite.training import optimizer
from msdm_lite.training.recipe import Recipe
from msdm_lite.utils.checkpoints import load_tensors, save_tensors
from msdm_lite.utils.files import scratch_files, written_whole

LOG = logging.getLogger("msdm_lite")
# What torch raises for bytes that are no checkpoint, or parts that do not fit
DAMAGED = (ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
           pickle.UnpicklingError, struct.error)
MEASURED = ("stem_rms", "mixture_rms", "tempi")  # what a configuration has from the training data


class TrainingState:
    """A model in training: its weights, their moving average, the optimizer, and the progress of the run.

    Attributes:
        step, seconds: steps and time of training so far, including those of the model that it was started from.
        begun: the steps of the model that it was started from, else 0.
    """

    def __init__(self, model: StemModel, recipe: Recipe, out: Path, steps: int = 0, minutes: float = 0.0):
        assert recipe.optimizer is not None and recipe.lr is not None, "Recipe.for_model() settles them"
        self.model, self.recipe, self.saved = model, recipe, out / "checkpoint.pt"
        self.average = AveragedModel(model, multi_avg_fn=_ramped(recipe.ema))
        self.optimizer = optimizer.optimizer(recipe.optimizer, model, recipe.lr, recipe.weight_decay)
        self.begun = self.step = steps
        self.seconds = 60.0 * minutes
        self._written = 0  # time of the checkpoint that the run resumed from
        self.start_clock()

    @property
    def share(self) -> float:
        """The share of the run that is done, from 0 to 1."""
        return self.step / self.recipe.steps if self.recipe.steps else self.seconds / 60 / (self.recipe.minutes or 1)

    def start_clock(self) -> None:
        """Start to count time as training time; the time since the last step does not count."""
        self._zero = time.perf_counter() - self.seconds

    def clock(self) -> float:
        """Seconds of training so far."""
        return time.perf_counter() - self._zero

    def restore(self) -> None:
        """Load the checkpoint. Other differences between its recipe and this one give a warning.

        Raises:
            InputError: the checkpoint is damaged, or has another preset, other stems, optimizer, start or sizes.
            MachineError: PyTorch is older than 2.6.
        """
        self._written = self.saved.stat().st_mtime_ns
        try:
            state = load_tensors(self.saved)
            if not isinstance(state, dict):
                raise TypeError("no dictionary")
            said, self.step, self.seconds = dict(state["recipe"]), int(state["step"]), float(state["seconds"])
        except MachineError:
            raise
        except DAMAGED as problem:
            raise InputError(f"{self.saved} is damaged or no checkpoint ({type(problem).__name__}): without --resume "
                             "the run begins anew, in another folder") from None
        now = asdict(self.recipe)
        then = now | said  # a checkpoint of an earlier version may lack some settings
        for name in ("preset", "stems", "optimizer", "start"):
            if _said(then[name]) != _said(now[name]):
                raise InputError(f"{self.saved} is of a run with --{name} {_said(then[name])}, not {_said(now[name])}")
        free = ("minutes", "steps", "cooldown", "log_every")  # these may change when a run is resumed
        was = {name: _said(then[name]) for name in now if name not in free}
        if other := [f"{name} {value}" for name, value in was.items() if value != _said(now[name])]:
            LOG.warning("%s is of a run with %s; from here on it is otherwise", self.saved, ", ".join(other))
        own = {name: value.shape for name, value in self.model.state_dict().items()}
        try:
            if {name: value.shape for name, value in state["model"].items()} != own:
                raise InputError(f"{self.saved} holds a {self.recipe.preset} of other sizes than this version's")
            for mine, name in ((self.model, "model"), (self.average, "average"), (self.optimizer, "optimizer")):
                mine.load_state_dict(state[name])
        except InputError:
            raise
        except DAMAGED as problem:
            raise InputError(f"{self.saved} lacks parts of a checkpoint, or they do not fit together "
                             f"({type(problem).__name__})") from None
        if "config" in state:  # checkpoints of earlier versions have none
            measured = type(self.model.config).from_dict(state["config"])
            for model in (self.model, cast(StemModel, self.average.module)):
                model.configure(**{name: getattr(measured, name) for name in MEASURED if hasattr(measured, name)})
        self.start_clock()

    def still_there(self, resumed: bool) -> None:
        """Check that no other run has written a checkpoint into the folder while this one was prepared.

        Raises:
            InputError: the checkpoint in the folder has changed.
        """
        if self.saved.exists() != resumed or (resumed and self.saved.stat().st_mtime_ns != self._written):
            raise InputError(f"another run has written {self.saved} meanwhile: add --resume to go on from there")

    def clear(self) -> None:
        """Remove partial files of a killed run, and check the space on the disk.

        Raises:
            InputError: two checkpoints do not fit on the disk.
        """
        for name in (self.saved.name, "log.jsonl", f"{self.recipe.name}.safetensors", f"{self.recipe.name}.json"):
            for scrap in scratch_files(self.saved.with_name(name)):  # and no other file that ends in .part
                scrap.unlink(missing_ok=True)
        size = 5 * 4 * sum(p.numel() for p in self.model.parameters())  # weights, average, two moments, and a margin
        if shutil.disk_usage(self.saved.parent).free < 2 * size:
            raise InputError(f"{self.saved.parent}: a checkpoint takes {size / 1e9:.2f} GB, twice while it is written; "
                             "the disk is full")

    def keep(self) -> None:
        """Write the checkpoint. If that fails, the one before stays as it was.

        Raises:
            InputError: it cannot be written; the message says whether there is an earlier one to resume from.
        """
        state = {"recipe": asdict(self.recipe), "model": self.model.state_dict(), "average": self.average.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": self.seconds,
                 "config": self.model.config.to_dict()}
        try:
            with written_whole(self.saved) as scratch:
                save_tensors(state, scratch)
        except (OSError, InputError) as problem:
            kept = "the one before it is whole; --resume goes on from there" if self.saved.exists() else (
                "there is none yet")
            raise InputError(f"the checkpoint of step {self.step} cannot be written to {self.saved.parent} "
                             f"({str(problem).splitlines()[0]}); {kept}") from None


def _said(value: object) -> str:
    """A value of a recipe as it is written on the command line."""
    if value is None:
        return "nothing"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _ramped(decay: float):
    """An exponential moving average whose decay grows to `decay`, so that early weights soon have no influence."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = float(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
