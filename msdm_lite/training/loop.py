"""The training loop of `msdm-lite train`. Chapter: `book/05-training.ipynb`.

A joint model of MDCT spectrograms is trained with every conditioning at once: noise on all stems; zero-sum noise, given
the mixture; noise on some stems, given the others; and both. A model of waveforms is trained with the first only, as in
the paper.

The same loop runs on a CPU, on one or several GPUs, and on several machines. The command
`torchrun --nproc_per_node 8 -m msdm_lite train ...` starts the processes (as does `accelerate launch`, for GPUs), and
HF Accelerate averages their gradients. Crop, noise level and noise of item i depend on the seed and i alone. So a run
does not depend on how its batches are divided among processes, and a resumed run continues as if it had not been
interrupted.
"""

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from msdm_lite.data.dataset import Augmentation, Crops, songs_of
from msdm_lite.data.resident import Plans, Resident
from msdm_lite.data.tracks import Track
from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.models.config import Config, WaveConfig, preset
from msdm_lite.models.joint import WaveModel
from msdm_lite.models.weights import build
from msdm_lite.training.batches import ItemOrder, beats_of, crop_samples, encode_crops, training_noise
from msdm_lite.training.finetune import finetuned_config, start_from
from msdm_lite.training.logger import Logger
from msdm_lite.training.recipe import Recipe
from msdm_lite.training.state import TrainingState
from msdm_lite.training.validation import Validation
from msdm_lite.utils import device
from msdm_lite.utils.files import claimed
from msdm_lite.utils.imports import library
from msdm_lite.utils.provenance import commit
from msdm_lite.utils.terminal import ignore_interrupts


def standard_deviations(model: StemModel, songs: Sequence[Track], count: int = 400) -> Tensor:
    """Standard deviation of each stem and bin over random crops: (S, bins), at least 2e-4 (50 dB below `STEM_RMS`)."""
    crops = Crops(songs, crop_samples(model), count, seed=1)
    powers = (encode_crops(model, crops[i]["stems"][None]).square().mean((0, -1)) for i in range(count))
    power = reduce(torch.add, powers) / count
    return power.sqrt().clamp(min=2e-4)


class Objective(nn.Module):
    """The loss as a module, which Accelerate wraps so that the gradients of all processes are averaged."""

    def __init__(self, model: StemModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor, sketched: Tensor,
                **conditions: Tensor) -> Tensor:
        return self.model.loss(x, sigma, conditioning, noise, sketched, **conditions).mean()


@contextlib.contextmanager
def interruptible() -> Iterator[list]:
    """A list that is not empty after Ctrl-C, so that the loop can finish its step and write a checkpoint first."""
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
          checkpoint_minutes: float = 5.0, compiled: bool = False, workers: int = 1, resident: bool = False,
          validation_crops: int = 24, change: Callable[[StemModel], object] | None = None) -> Path:
    """Train a model: write checkpoint.pt, log.jsonl, tensorboard/ and the weights into `out`; return the weights' path.

    Args:
        resume: resume from the checkpoint in `out`.
        on: "auto", "cpu" or "cuda".
        checkpoint_minutes: time between checkpoints; each is followed by a validation, and the averaged weights are
            written as a model.
        compiled: compile the denoiser with torch.compile.
        workers: number of processes that read crops, for each process that trains.
        resident: copy all songs into the memory of the device first, and cut crops there.
        validation_crops: number of crops of validation songs that each validation measures.
        change: for experiments: called with the new model before training.

    Raises:
        InputError: the recipe names what does not exist, songs are not rendered or cannot be read, there is no
            checkpoint to resume from, it is of another model, another run uses the folder, or the disk is full.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
        KeyboardInterrupt: the run was interrupted; the checkpoint has been written.
    """
    recipe.check()
    if min(workers, validation_crops) < 1 or not checkpoint_minutes >= 0:
        raise InputError("workers and validation_crops must be 1 or more, and checkpoint-minutes 0 or more")
    out = Path(out)
    path = out / f"{'-'.join(recipe.stems) if recipe.stems else recipe.preset}.safetensors"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, not a folder")
    if resume and not (out / "checkpoint.pt").exists():
        raise InputError(f"there is no {out / 'checkpoint.pt'} to resume from")
    if not resume and (out / "checkpoint.pt").exists():
        raise InputError(f"{out / 'checkpoint.pt'} exists: add --resume to go on, or choose another folder")
    if not resume and path.exists():
        raise InputError(f"{path} exists, and no checkpoint to go on from: choose another folder, or move it away")
    config = preset(recipe.preset, recipe.stems)
    songs_of(recipe.data, "val", balance=recipe.balance)  # fail now if there are none, not at the first validation
    songs = songs_of(recipe.data, "train", recipe.variations, recipe.balance, programs=recipe.programs,
                     transpose=recipe.transpose, soundfonts=recipe.soundfonts)
    accelerator = _accelerator(recipe, on)
    main = accelerator.is_main_process
    model, before = _initial_model(recipe, config, songs, resume)
    asked, recipe = recipe, recipe.for_model(model)
    model.record = {"recipe": asdict(recipe)}  # the model reads from it what it is trained with
    if change:
        change(model)
    run = TrainingState(weights.to_device(model, accelerator.device), recipe, out, before.get("steps", 0),
                        before.get("minutes", 0))
    if resume:
        run.restore()
    if compiled:
        model.denoiser.compile()  # in place: the names of the weights do not change
    objective, optimizer = accelerator.prepare(Objective(model), run.optimizer)
    crops = Crops(songs, crop_samples(model), 2**62, recipe.seed,
                  Augmentation(recipe.gain_db, recipe.silence, recipe.remix, recipe.detune),
                  model.config.bins if recipe.beat_share else 0)
    here = Resident(songs, crop_samples(model), recipe.detune, accelerator.device) if resident else None
    # Worker processes prepare crops, or plans of crops, ahead of the steps that use them
    loader = DataLoader(Plans(crops) if here else crops, recipe.batch,
                        sampler=ItemOrder(run.step, recipe, accelerator.process_index, accelerator.num_processes),
                        num_workers=workers, prefetch_factor=8, worker_init_fn=ignore_interrupts,
                        pin_memory=accelerator.device.type == "cuda", persistent_workers=True)
    loaded = iter(loader)  # starts the workers before the folder is locked: else they would keep the lock after a kill
    batches = ({**plan, "stems": here.cut(plan)} for plan in loaded) if here else loaded
    with contextlib.ExitStack() as held:
        journal = validate = None
        if main:
            held.enter_context(claimed(out))
            run.still_there(resume)
            run.clear()
            validate = Validation(model, recipe.data, recipe.balance, validation_crops)
            journal = held.enter_context(contextlib.closing(Logger(out, run.step)))
        made = {"recipe": asdict(recipe), "songs": len(songs),
                "hours_of_music": round(float(crops.lengths.sum()) / model.sample_rate / 3600, 2),
                "device": accelerator.device.type, "processes": accelerator.num_processes,
                "processor": device.processor(accelerator.device.type),
                "precision": "bfloat16" if accelerator.mixed_precision == "bf16" else "float32", "commit": commit(),
                "command": asked.command(), **({"before": before} if before else {})}

        def keep(quickly: bool = False) -> None:
            """Write the checkpoint; unless `quickly`, validate the averaged weights too and write them as a model."""
            if journal and validate:
                run.keep()
                if not quickly:
                    weights.save(cast(StemModel, run.average.module), path, made | _validate(run, validate, journal))

        bar = held.enter_context(tqdm(total=recipe.steps or round((recipe.minutes or 0) * 60),
                                      initial=run.step if recipe.steps else round(run.seconds),
                                      desc=f"training {recipe.preset}", unit="step" if recipe.steps else "s",
                                      disable=not (progress and main)))
        with interruptible() as pressed:
            running: list[float] = []
            kept = run.seconds
            run.start_clock()
            while run.share < 1:
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate(run.step - run.begun, run.share)
                loss, run.seconds, stop = _step(run, batches, accelerator, objective, optimizer, pressed)
                run.average.update_parameters(model)
                run.step += 1
                running.append(loss)
                bar.update(1 if recipe.steps else round(run.seconds) - bar.n)
                if run.step % recipe.log_every == 0:
                    recent = sum(running) / len(running)
                    bar.set_postfix(loss=f"{recent:.3f}", step=run.step)
                    if journal:
                        journal.note(run.step, run.seconds, loss=round(recent, 6))
                    running.clear()
                if run.share < 1 and (stop or run.seconds - kept > 60 * checkpoint_minutes):
                    keep(quickly=stop)
                    kept = run.seconds
                    run.start_clock()  # the time of a validation does not count as training
                    if stop:
                        raise KeyboardInterrupt
        keep()
        if pressed:  # during the last step: the run is complete, but the caller is interrupted
            raise KeyboardInterrupt
    accelerator.wait_for_everyone()
    return path


def _accelerator(recipe: Recipe, on: str) -> Any:
    """The Accelerator, which joins the processes; in bfloat16 where that is fast."""
    Accelerator = library("accelerate").Accelerator
    kind = device.pick(on).type
    return Accelerator(cpu=kind == "cpu", mixed_precision="bf16" if device.fast_bfloat16(kind) else "no",
                       gradient_accumulation_steps=recipe.accumulate)


def _initial_model(recipe: Recipe, config: Config | WaveConfig, songs: Sequence[Track], resume: bool
           ) -> tuple[StemModel, dict]:
    """The model before the first step; and the record of the model that it is fine-tuned from, {} if there is none."""
    torch.manual_seed(recipe.seed)
    start = weights.load(recipe.start, "cpu") if recipe.start else None
    model: StemModel = build(finetuned_config(start.config, config) if start else config)
    if start:
        start_from(start, model, recipe, config.stems)
        return model, start.record
    if not isinstance(model, WaveModel) and not resume:
        model.denoiser.std.copy_(standard_deviations(model, songs))
    return model, {}


def _step(run: TrainingState, batches: Iterator[dict], accelerator: Any, objective: nn.Module, optimizer: Any,
          pressed: list
          ) -> tuple[float, float, bool]:
    """One optimizer step: returns its loss, the seconds of training so far, and whether Ctrl-C was pressed."""
    recipe, model, where, world = run.recipe, run.model, accelerator.device, accelerator.num_processes
    crops: list[str] = []
    value = torch.zeros((), device=where)
    loss, seconds, stop = math.nan, run.seconds, 0.0
    for turn in range(recipe.accumulate):
        batch = _next(batches)
        crops += [f"{name} at {start}" for name, start in zip(batch["name"], batch["start"].tolist(), strict=True)]
        x = encode_crops(model, batch["stems"].to(where, non_blocking=True))  # (B, S, bins, frames)
        first = ((run.step * recipe.accumulate + turn) * world + accelerator.process_index) * recipe.batch
        items = torch.arange(first, first + recipe.batch)
        sigma, conditioning, noise, sketched = training_noise(items, x, recipe)
        conditions = {}
        if recipe.beat_share:
            conditions["beat_phase"] = beats_of(batch["beat_phase"], items, recipe).to(x)[..., : x.shape[-1]]
        with accelerator.accumulate(objective):
            mean = objective(x, sigma, conditioning, noise, sketched, **conditions)
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
                accelerator.clip_grad_norm_(objective.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return loss / world, seconds, bool(stop)


def _next(batches: Iterator[dict]) -> dict:
    """The next batch. An InputError of a worker is raised again with one line, without the traceback of the worker."""
    try:
        return next(batches)
    except InputError as problem:
        *before, last = str(problem).strip().splitlines()
        raise InputError(last.partition(": ")[2] if before else last) from None


def _uncompiled() -> contextlib.AbstractContextManager:
    """A context without compilation, which would take longer than a few validation batches of another size."""
    stance = getattr(torch.compiler, "set_stance", None)  # since PyTorch 2.6
    return stance("force_eager") if stance else contextlib.nullcontext()


def _validate(run: TrainingState, validate: Validation, journal: Logger) -> dict:
    """Validate the averaged and the current weights, and log both; returns the record of the averaged ones."""
    run.model.eval()
    found = validate(cast(StemModel, run.average.module))
    with _uncompiled():
        raw = validate(run.model)
    journal.note(run.step, run.seconds, **{f"val_{k}": v for k, v in found.items()},
                 **{f"raw_{k}": v for k, v in raw.items()})
    run.model.train()
    return {"steps": run.step, "minutes": round(run.seconds / 60, 1), "validation": found}
