"""One step of training: batches, their loss, and the update of the weights.

Chapter: `book/05-training.ipynb`.
"""

import contextlib
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.training.batches import beats_of, encode_crops, training_noise
from msdm_lite.training.state import TrainingState


class Objective(nn.Module):
    """The loss as a module, which Accelerate wraps so that the gradients of all processes are averaged."""

    def __init__(self, model: StemModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        return self.model.loss(x, sigma, conditioning, noise).mean()


@contextlib.contextmanager
def interruptible() -> Iterator[list]:
    """A list that is not empty after Ctrl-C, so that the loop can finish its step and write a checkpoint first.

    A second Ctrl-C interrupts at once.
    """
    pressed: list = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note(*_: Any) -> None:
        if pressed:  # a second time: at once, and the last checkpoint is what is left
            raise KeyboardInterrupt
        pressed.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class TrainingStep:
    """A step of one process: it takes as many batches as are accumulated.

    Attributes:
        accelerator: HF Accelerate's; `objective` and `optimizer` are prepared by it.
        stems: names of the stems in the batches.
        gain: of every crop.
    """

    run: TrainingState
    accelerator: Any
    objective: nn.Module
    optimizer: Any
    stems: Sequence[str]
    gain: float = 1.0

    def __call__(self, batches: Iterator[dict], pressed: list) -> tuple[float, float, bool]:
        """One optimizer step: returns its loss, the seconds of training so far, and whether Ctrl-C was pressed.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; the message names the crops.
        """
        run, accelerator, recipe = self.run, self.accelerator, self.run.recipe
        where, world = accelerator.device, accelerator.num_processes
        crops: list[str] = []
        value = torch.zeros((), device=where)
        loss, seconds, stop = math.nan, run.seconds, 0.0
        for turn in range(recipe.accumulate):
            batch = _next(batches)
            crops += [f"{name} at {start}" for name, start in zip(batch["name"], batch["start"].tolist(), strict=True)]
            sound = batch["stems"].to(where, non_blocking=True)
            x = encode_crops(run.model, sound if self.gain == 1 else self.gain * sound, self.stems)
            first = ((run.step * recipe.accumulate + turn) * world + accelerator.process_index) * recipe.batch
            items = torch.arange(first, first + recipe.batch)
            sigma, conditioning, noise = training_noise(items, x, recipe)
            if recipe.beat_share:
                beat_phase = beats_of(batch["beat_phase"], items, recipe).to(x)[..., : x.shape[-1]]
                conditioning = conditioning.with_conditions(beat_phase=beat_phase)
            with accelerator.accumulate(self.objective):
                mean = self.objective(x, sigma, conditioning, noise)
                accelerator.backward(mean)
                value += mean.detach() / recipe.accumulate
                if accelerator.sync_gradients:
                    # All processes use the clock of the first one, so that they stop at the same step
                    clock = run.clock() if accelerator.is_main_process else 0.0
                    agreed = torch.stack([value.float(), value.new_tensor(clock, dtype=torch.float),
                                          value.new_tensor(float(bool(pressed)), dtype=torch.float)])
                    agreed = accelerator.reduce(agreed, "sum") if world > 1 else agreed
                    loss, seconds, stop = agreed.tolist()
                    if not math.isfinite(loss):
                        raise FloatingPointError(
                            f"the loss of step {run.step} is {loss}; the batch of process {accelerator.process_index}: "
                            f"{', '.join(crops)}; sigma {[round(s, 4) for s in sigma.tolist()]}")
                    norm = float(accelerator.clip_grad_norm_(self.objective.parameters(), recipe.clip or math.inf))
                    if not math.isfinite(norm):  # the weights and the checkpoint stay as they are
                        raise FloatingPointError(
                            f"the gradient of step {run.step} has the norm {norm}; its loss is {loss / world:.4g}; the "
                            f"batch of process {accelerator.process_index}: {', '.join(crops)}")
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        return loss / world, seconds, bool(stop)


def _next(batches: Iterator[dict]) -> dict:
    """The next batch. An InputError of a worker is raised again with one line, without the traceback of the worker."""
    try:
        return next(batches)
    except InputError as problem:
        *before, last = str(problem).strip().splitlines()
        raise InputError(last.partition(": ")[2] if before else last) from None
