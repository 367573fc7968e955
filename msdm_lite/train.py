"""Training a model, on whatever there is: `msdm-lite train`. Chapter: `book/05-training.ipynb`.

A model of pictures learns all shapes of noise at once: on all stems; summing to zero over the stems, so that the
mixture is known; on some stems, so that the others are; and both. A model of waveforms learns the first only, as in the
paper.

One loop serves a CPU, a GPU, several, and several machines: `torchrun --nproc_per_node 8 -m msdm_lite train ...` starts
the processes (`accelerate launch` does too, for GPUs), and HF Accelerate joins their gradients. Crop, noise level and
noise of item number i depend on the seed and i alone. So a run does not depend on how its batches are shared out among
processes, and one that was killed goes on as if it had not been.
"""

import contextlib
import math
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from msdm_lite import device, weights
from msdm_lite import optimizer as optimizers
from msdm_lite.crops import Augmentation, Crops, Track
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.items import Order, clicks_of, noise_of
from msdm_lite.journal import Journal
from msdm_lite.known import Known
from msdm_lite.model import build, preset
from msdm_lite.recipe import Recipe, songs_of
from msdm_lite.resources import ignore_interrupts, whole
from msdm_lite.start import begin_with, continued
from msdm_lite.validation import Validation, crop_samples, pictures
from msdm_lite.wave import WaveModel


def deviations(model: StemModel, songs: Sequence[Track], count: int = 400) -> Tensor:
    """Standard deviation of each stem and bin over random crops: (S, bins), floored 50 dB under the stem level."""
    crops = Crops(songs, crop_samples(model), count, seed=1)
    powers = (pictures(model, crops[i]["stems"][None]).square().mean((0, -1)) for i in range(count))
    power = reduce(torch.add, powers) / count
    return power.sqrt().clamp(min=2e-4)


class Objective(nn.Module):
    """The loss as a module: what Accelerate wraps, so that gradients meet where several processes train."""

    def __init__(self, model: StemModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor, sketched: Tensor,
                **told: Tensor) -> Tensor:
        return self.model.loss(x, sigma, known, noise, sketched, **told).mean()


def commit() -> str:
    """The git commit of the code that runs, or "unknown"."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


@contextlib.contextmanager
def interruptible() -> Iterator[list]:
    """A list that holds something once Ctrl-C was pressed: the step is finished, and the checkpoint written, first."""
    pressed: list = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def train(recipe: Recipe, out: str | Path, resume: bool = False, on: str = "auto", progress: bool = True,
          checkpoint_minutes: float = 5.0, compiled: bool = False, workers: int = 1,
          change: Callable[[StemModel], object] | None = None) -> Path:
    """Train a model; writes checkpoint.pt, log.jsonl, tensorboard/ and the weights into `out`; returns their path.

    Args:
        resume: go on from the checkpoint in `out`.
        on: "auto", "cpu" or "cuda".
        checkpoint_minutes: time between checkpoints; each is followed by a validation, and the weights so far.
        compiled: let torch.compile work on the network first.
        workers: processes that read crops, beside each process that trains.
        change: for experiments: called with the new model before anything is learned.

    Raises:
        InputError: the recipe names what does not exist, songs are not rendered, nothing to resume, a checkpoint of
            another model, or a disk that is full.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
        KeyboardInterrupt: it was interrupted, after the checkpoint was written.
    """
    if (recipe.minutes is None) == (recipe.steps is None):
        raise InputError("say how long to train: either --minutes or --steps")
    if min(recipe.batch, recipe.accumulate, workers, recipe.log_every) < 1:
        raise InputError("batch, accumulate, workers and log-every must be 1 or more")
    length = recipe.steps if recipe.minutes is None else recipe.minutes
    if length is None or not 0 < length < math.inf or (recipe.lr is not None and not 0 < recipe.lr < math.inf):
        raise InputError("minutes, steps and lr must be above 0")
    if min(recipe.gain_db, recipe.detune) < 0 or not all(0 <= p <= 1 for p in (recipe.silence, recipe.remix)):
        raise InputError("gain-db and detune are 0 or more, silence and remix are probabilities")
    out = Path(out)
    saved = out / "checkpoint.pt"
    if resume and not saved.exists():
        raise InputError(f"there is no {saved} to resume from")
    if not resume and saved.exists():
        raise InputError(f"{saved} exists: add --resume to go on, or choose another folder")
    config = preset(recipe.preset, recipe.stems)
    songs = songs_of(recipe.data, "train", recipe.variations, recipe.balance, programs=recipe.programs,
                     transpose=recipe.transpose, soundfonts=recipe.soundfonts)
    try:
        from accelerate import Accelerator
    except ImportError:
        raise InputError("training needs HF Accelerate: pip install accelerate") from None
    kind = device.pick(on).type
    half = device.fast_bfloat16(kind)
    accelerator = Accelerator(cpu=kind == "cpu", mixed_precision="bf16" if half else "no",
                              gradient_accumulation_steps=recipe.accumulate)
    where, world, main = accelerator.device, accelerator.num_processes, accelerator.is_main_process

    torch.manual_seed(recipe.seed)
    start = weights.load(recipe.start, "cpu") if recipe.start else None
    model: StemModel = build(continued(start.config, config) if start else config)
    asked, recipe = recipe, recipe.for_model(model)
    assert recipe.optimizer is not None and recipe.lr is not None  # the model settled them
    model.record = {"recipe": asdict(recipe)}  # which says what it will have learned
    if start:
        begin_with(start, model, recipe, config.stems)
    elif not isinstance(model, WaveModel) and not resume:
        model.denoiser.deviation.copy_(deviations(model, songs))
    if change:
        change(model)
    state = None
    if resume:
        state = torch.load(saved, map_location="cpu", weights_only=True)
        if state["recipe"]["preset"] != recipe.preset:
            raise InputError(f"{saved} holds the preset {state['recipe']['preset']}, not {recipe.preset}")
        if {k: v.shape for k, v in state["model"].items()} != {k: v.shape for k, v in model.state_dict().items()}:
            raise InputError(f"{saved} holds a {recipe.preset} of other sizes than this version's")
        model.load_state_dict(state["model"])
    model = weights.placed(model, where)
    average = AveragedModel(model, multi_avg_fn=_ramped(recipe.ema))
    optimizer = optimizers.optimizer(recipe.optimizer, model, recipe.lr, recipe.weight_decay)
    begun = step = start.record.get("steps", 0) if start else 0  # the run goes on where those weights stopped
    seconds = 60.0 * start.record.get("minutes", 0) if start else 0.0
    if state:
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        del state
    if compiled:
        model.denoiser.net.compile()  # in place: names of weights stay
    out.mkdir(parents=True, exist_ok=True)
    for scrap in out.glob("*.part") if main else ():  # of a run that was killed while it wrote
        scrap.unlink()
    size = 5 * 4 * sum(p.numel() for p in model.parameters())  # weights, average, two moments; and something over
    if shutil.disk_usage(out).free < 2 * size:
        raise InputError(f"{out}: a checkpoint takes {size / 1e9:.2f} GB, twice while it is written; the disk is full")
    objective, prepared = accelerator.prepare(Objective(model), optimizer)

    crops = Crops(songs, crop_samples(model), 2**62, recipe.seed,
                  Augmentation(recipe.gain_db, recipe.silence, recipe.remix, recipe.detune),
                  model.config.bins if recipe.clicked else 0)
    # Processes beside this one: the crops are there when the step wants them
    loader = DataLoader(crops, recipe.batch, sampler=Order(step, recipe, accelerator.process_index, world),
                        num_workers=workers, prefetch_factor=8, worker_init_fn=ignore_interrupts,
                        pin_memory=where.type == "cuda", persistent_workers=True)
    validate = Validation(model, recipe.data, recipe.balance) if main else None
    journal = Journal(out, step) if main else None

    def keep() -> None:
        """The checkpoint, whole or not at all."""
        if not main:
            return
        state = {"recipe": asdict(recipe), "model": model.state_dict(), "average": average.state_dict(),
                 "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
        try:
            with whole(saved) as scratch:
                torch.save(state, scratch)
        except (OSError, RuntimeError, InputError) as problem:  # torch says RuntimeError when the disk is full
            kept = "the one before it is whole; --resume goes on from there" if saved.exists() else "there is none yet"
            raise InputError(f"the checkpoint of step {step} cannot be written to {out} "
                             f"({str(problem).splitlines()[0]}); {kept}") from None

    path = out / f"{'-'.join(recipe.stems) if recipe.stems else recipe.preset}.safetensors"

    def ship() -> None:
        """Validation of the averaged weights and of the last ones, on record; and the averaged ones as a model."""
        model.eval()
        assert validate and journal
        so_far = cast(StemModel, average.module)
        found = validate(so_far)
        journal.note(step, seconds, **{f"val_{k}": v for k, v in found.items()},
                     **{f"raw_{k}": v for k, v in validate(model).items()})
        model.train()
        record = {"recipe": asdict(recipe), "steps": step, "minutes": round(seconds / 60, 1), "songs": len(songs),
                  "hours_of_music": round(float(crops.lengths.sum()) / model.sample_rate / 3600, 2),
                  "device": where.type, "processes": world, "processor": device.processor(),
                  "precision": "bfloat16" if half else "float32", "commit": commit(), "validation": found,
                  "command": asked.command()}
        if start:
            record["before"] = start.record
        weights.save(so_far, path, record)

    def share_done() -> float:
        return step / recipe.steps if recipe.steps else seconds / 60 / (recipe.minutes or 1)

    running: list[float] = []
    total = recipe.steps or round((recipe.minutes or 0) * 60)
    bar = tqdm(total=total, initial=step if recipe.steps else round(seconds), desc=f"training {recipe.preset}",
               unit="step" if recipe.steps else "s", disable=not (progress and main))
    batches = iter(loader)
    kept = seconds
    last = time.perf_counter()
    with interruptible() as pressed:
        while share_done() < 1:
            for group in prepared.param_groups:
                group["lr"] = recipe.rate(step - begun, share_done())
            heard, value = [], torch.zeros((), device=where)
            for turn in range(recipe.accumulate):
                batch = next(batches)
                heard += [f"{name} at {start}" for name, start in zip(batch["name"], batch["start"].tolist(),
                                                                      strict=True)]
                x = pictures(model, batch["stems"].to(where, non_blocking=True))  # (B, S, bins, frames)
                first = ((step * recipe.accumulate + turn) * world + accelerator.process_index) * recipe.batch
                items = torch.arange(first, first + recipe.batch)
                sigma, known, noise, sketched = noise_of(items, x, recipe)
                told = {"click": clicks_of(batch["click"], items, recipe).to(x)[..., : x.shape[-1]]
                        } if recipe.clicked else {}
                with accelerator.accumulate(objective):
                    mean = objective(x, sigma, known, noise, sketched, **told)
                    accelerator.backward(mean)
                    value += mean.detach() / recipe.accumulate
                    if accelerator.sync_gradients:
                        # What the first process reads from its clock holds for all, or they would not stop together
                        clock = time.perf_counter() - last + seconds if main else 0.0
                        agreed = torch.stack([value.float(), value.new_tensor(clock, dtype=torch.float),
                                              value.new_tensor(float(bool(pressed)), dtype=torch.float)])
                        agreed = accelerator.reduce(agreed, "sum") if world > 1 else agreed
                        loss, now, stop = agreed.tolist()
                        if not math.isfinite(loss):
                            raise FloatingPointError(
                                f"the loss of step {step} is {loss}; the batch of process {accelerator.process_index}: "
                                f"{', '.join(heard)}; sigma {[round(s, 4) for s in sigma.tolist()]}")
                        accelerator.clip_grad_norm_(objective.parameters(), recipe.clip)
                    prepared.step()
                    prepared.zero_grad(set_to_none=True)
            average.update_parameters(model)
            step += 1
            last, seconds = last + now - seconds, now
            running.append(loss / world)
            bar.update(1 if recipe.steps else round(seconds) - bar.n)
            if step % recipe.log_every == 0:
                recent = sum(running) / len(running)
                bar.set_postfix(loss=f"{recent:.3f}", step=step)
                if journal:
                    journal.note(step, seconds, loss=round(recent, 6))
                running.clear()
            if stop:
                keep()
                raise KeyboardInterrupt
            if seconds - kept > 60 * checkpoint_minutes:
                keep()
                kept = seconds
                if main and share_done() < 1:
                    ship()
                last = time.perf_counter()  # validation is not training time
    bar.close()
    keep()
    if journal:
        ship()
        journal.close()
    accelerator.wait_for_everyone()
    return path


def _ramped(decay: float):
    """An exponential moving average that starts short, so that the first random weights are forgotten soon."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = float(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
