"""The training loop of `msdm-lite train`. Chapter: `book/05-training.ipynb`.

A joint model of MDCT spectrograms is trained with every conditioning at once: noise on all stems; zero-sum noise, given
the mixture; noise on some stems, given the others; and both. A model of waveforms is trained with the first only, as in
the paper.
`fit` trains any model on any tracks; `train` finds both by the names in a recipe. The same loop runs on a CPU, on one
or several GPUs, and on several machines. The command `torchrun --nproc_per_node 8 -m msdm_lite train ...` starts the
processes (as does `accelerate launch`, for GPUs), and HF Accelerate averages their gradients. Crop, noise level and
noise of item i depend on the seed and i alone. So a run does not depend on how its batches are divided among processes,
and a resumed run continues as if it had not been interrupted.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.data.dataset import Augmentation, Crops, part, songs_of
from msdm_lite.data.resident import Plans, Resident
from msdm_lite.data.tracks import Track
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.models.config import Config, WaveConfig, preset
from msdm_lite.models.weights import build
from msdm_lite.training import statistics
from msdm_lite.training.batches import ItemOrder, crop_samples
from msdm_lite.training.finetune import start_from
from msdm_lite.training.logger import Logger
from msdm_lite.training.recipe import Recipe, Running
from msdm_lite.training.state import TrainingState
from msdm_lite.training.step import Objective, TrainingStep, interruptible
from msdm_lite.training.validation import Validation, uncompiled
from msdm_lite.utils import device
from msdm_lite.utils.files import claimed
from msdm_lite.utils.imports import library
from msdm_lite.utils.provenance import commit
from msdm_lite.utils.terminal import ignore_interrupts


@dataclass
class Run:
    """A training run before its first step.

    Attributes:
        songs, validation: the tracks to train on, and those to validate with.
        out: the folder of the run.
        repeatable: whether a command line repeats it, and not Python alone.
        before: record of the model that it is started from; {} if there is none.
        gain: brings the songs to the level of that model.
    """

    model: StemModel
    songs: Sequence[Track]
    validation: Sequence[Track]
    recipe: Recipe
    out: Path
    running: Running
    repeatable: bool = False
    before: dict = field(default_factory=dict)
    gain: float = 1.0

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return _weights_path(self.out, self.recipe)


def fit(model: StemModel, tracks: Iterable[Track], recipe: Recipe, out: str | Path,
        validation: Iterable[Track] | None = None, **running: Any) -> Path:
    """Train a model on tracks: write checkpoint.pt, log.jsonl, tensorboard/ and the weights into `out`.

    Returns the path of the weights, `PRESET.safetensors`, with the preset of the model's configuration.

    Args:
        model: any `StemModel`, which is trained in place; the file has the average of its weights over the run. What it
            keeps of its data is measured first, see `msdm_lite.training.statistics`.
        tracks: see `msdm_lite.data.tracks.Track`; those of the split "test" are left out.
        recipe: its `preset`, `data`, `stems` and `start` are not used: the model and the tracks say them.
        validation: tracks to validate with; if None, those of the split "val", or else a tenth that is held out.
        running: fields of `Running`: resume, checkpoint_minutes, validation_crops, compile, workers, resident, device,
            progress.

    Raises:
        InputError, FloatingPointError, KeyboardInterrupt: as `train`.
    """
    tracks = list(tracks)
    recipe = replace(recipe, preset=model.config.preset, data=f"{len(tracks)} tracks", stems=None, start=None)
    how, out = _checked(recipe, out, running)
    if validation is None:
        songs, validation = (part(tracks, split, "the list of tracks") for split in ("train", "val"))
    else:
        songs, validation = [track for track in tracks if track.split != "test"], list(validation)
    if not songs or not validation:
        raise InputError(f"of {len(tracks)} tracks, {len(songs)} are to train on and {len(validation)} to "
                         "validate with; one of each is the least")
    if not how.resume:
        statistics.measure(model, songs)
    return _run(Run(model.requires_grad_(True).train(), songs, validation, recipe, out, how))


def train(recipe: Recipe, out: str | Path, change: Callable[[Any], object] | None = None, **running: Any) -> Path:
    """Train a model by a recipe: write checkpoint.pt, log.jsonl, tensorboard/ and the weights into `out`.

    Returns the path of the weights.

    Args:
        change: for experiments: called with the new model before training.
        running: fields of `Running`: resume, checkpoint_minutes, validation_crops, compile, workers, resident, device,
            progress.

    Raises:
        InputError: the recipe names what does not exist, songs are not rendered or cannot be read, there is no
            checkpoint to resume from, it is of another model, another run uses the folder, or the disk is full.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
        KeyboardInterrupt: the run was interrupted; the checkpoint has been written.
    """
    how, out = _checked(recipe, out, running)
    config = preset(recipe.preset, recipe.stems)
    # Fail now if there are none, not at the first validation
    validation = songs_of(recipe.data, "val", balance=recipe.balance, stems=recipe.stems)
    songs = songs_of(recipe.data, "train", recipe.variations, recipe.balance, recipe.stems, programs=recipe.programs,
                     transpose=recipe.transpose, soundfonts=recipe.soundfonts)
    model, before, gain = _initial_model(recipe, config, songs, how.resume)
    if change:
        change(model)
    return _run(Run(model, songs, validation, recipe, out, how, change is None, before, gain))


def _weights_path(out: Path, recipe: Recipe) -> Path:
    return out / f"{recipe.name}.safetensors"


def _checked(recipe: Recipe, out: str | Path, running: dict[str, Any]) -> tuple[Running, Path]:
    """How to run, and the folder of the run, before anything is read.

    Raises:
        InputError: settings out of range, or a folder that does not suit them.
    """
    how = Running(**running)
    recipe.check()
    how.check()
    out = Path(out)
    path = _weights_path(out, recipe)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, not a folder")
    if how.resume and not (out / "checkpoint.pt").exists():
        raise InputError(f"there is no {out / 'checkpoint.pt'} to resume from")
    if not how.resume and (out / "checkpoint.pt").exists():
        raise InputError(f"{out / 'checkpoint.pt'} exists: add --resume to go on, or choose another folder")
    if not how.resume and path.exists():
        raise InputError(f"{path} exists, and no checkpoint to go on from: choose another folder, or move it away")
    return how, out


def _run(job: Run) -> Path:
    """Train from the first step, or from the checkpoint, to the last; returns the path of the weights."""
    model, out, running = job.model, job.out, job.running
    _require_rate(job)
    recipe = job.recipe.for_model(model)
    model.record = {"recipe": asdict(recipe)}  # the model reads from it what it is trained with
    accelerator = _accelerator(recipe, running.device)
    main = accelerator.is_main_process
    run = TrainingState(model.to_device(accelerator.device), recipe, out, job.before.get("steps", 0),
                        job.before.get("minutes", 0))
    if running.resume:
        run.restore()
    if running.compile:
        model.denoiser.compile()  # in place: the names of the weights do not change
    objective, optimizer = accelerator.prepare(Objective(model), run.optimizer)
    crops = Crops(job.songs, crop_samples(model), 2**62, recipe.seed,
                  Augmentation(recipe.gain_db, recipe.silence, recipe.remix, recipe.detune),
                  model.transform.hop if recipe.beat_share else 0)
    step = TrainingStep(run, accelerator, objective, optimizer, crops.stems, job.gain)
    batches = _batches(crops, run, running, accelerator)  # before the folder is locked: workers would keep the lock
    with contextlib.ExitStack() as held:
        journal = validate = None
        if main:
            recipe.warn_of_single_stem(model, accelerator.num_processes)
            held.enter_context(claimed(out))
            run.still_there(running.resume)
            run.clear()
            validate = Validation(model, job.validation, running.validation_crops, job.gain)
            journal = held.enter_context(contextlib.closing(Logger(out, run.step)))
        made = {"recipe": asdict(recipe), "songs": len(job.songs),
                "hours_of_music": round(float(crops.lengths.sum()) / model.sample_rate / 3600, 2),
                "device": accelerator.device.type, "processes": accelerator.num_processes,
                "processor": device.processor(accelerator.device.type),
                "precision": "bfloat16" if accelerator.mixed_precision == "bf16" else "float32", "commit": commit(),
                **({"before": job.before} if job.before else {})}
        if job.repeatable:
            made["command"] = job.recipe.command(running, accelerator.num_processes)

        def keep(quickly: bool = False) -> None:
            """Write the checkpoint; unless `quickly`, validate the averaged weights too and write them as a model."""
            if journal and validate:
                run.keep()
                if not quickly:
                    weights.save(cast(StemModel, run.average.module), job.weights,
                                 made | _validate(run, validate, journal))

        bar = held.enter_context(tqdm(total=recipe.steps or round((recipe.minutes or 0) * 60),
                                      initial=run.step if recipe.steps else round(run.seconds),
                                      desc=f"training {recipe.preset}", unit="step" if recipe.steps else "s",
                                      disable=not (running.progress and main)))
        with interruptible() as pressed:
            recent: list[float] = []
            kept = run.seconds
            run.start_clock()
            while run.share < 1:
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate(run.step - run.begun, run.share)
                loss, run.seconds, stop = step(batches, pressed)
                run.average.update_parameters(model)
                run.step += 1
                recent.append(loss)
                bar.update(1 if recipe.steps else round(run.seconds) - bar.n)
                if run.step % recipe.log_every == 0:
                    mean = sum(recent) / len(recent)
                    bar.set_postfix(loss=f"{mean:.3f}", step=run.step)
                    if journal:
                        journal.note(run.step, run.seconds, loss=round(mean, 6))
                    recent.clear()
                if run.share < 1 and (stop or run.seconds - kept > 60 * running.checkpoint_minutes):
                    keep(quickly=stop)
                    kept = run.seconds
                    run.start_clock()  # the time of a validation does not count as training
                    if stop:
                        raise KeyboardInterrupt
        keep()
        if pressed:  # during the last step: the run is complete, but the caller is interrupted
            raise KeyboardInterrupt
    accelerator.wait_for_everyone()
    return job.weights


def _require_rate(job: Run) -> None:
    """Raises InputError if the tracks have another sample rate than the model."""
    for track in (*job.songs, *job.validation):
        if (rate := getattr(track, "sample_rate", SAMPLE_RATE)) != job.model.sample_rate:
            raise InputError(f"{track.name} is read at {rate} Hz, and the model is of {job.model.sample_rate} Hz")


def _batches(crops: Crops, run: TrainingState, running: Running, accelerator: Any) -> Iterator[dict]:
    """The batches of one process from a step on. Worker processes prepare crops, or plans of crops, ahead of use."""
    here = None
    if running.resident:
        here = Resident(crops.tracks, crops.samples, run.recipe.detune, accelerator.device)
    order = ItemOrder(run.step, run.recipe, accelerator.process_index, accelerator.num_processes)
    loader = DataLoader(Plans(crops) if here else crops, run.recipe.batch, sampler=order, num_workers=running.workers,
                        prefetch_factor=8, worker_init_fn=ignore_interrupts,
                        pin_memory=accelerator.device.type == "cuda", persistent_workers=True)
    loaded = iter(loader)  # starts the workers
    return ({**plan, "stems": here.cut(plan)} for plan in loaded) if here else loaded


def _accelerator(recipe: Recipe, on: str) -> Any:
    """The Accelerator, which joins the processes; in bfloat16 where that is fast."""
    Accelerator = library("accelerate").Accelerator
    kind = device.pick(on).type
    return Accelerator(cpu=kind == "cpu", mixed_precision="bf16" if device.fast_bfloat16(kind) else "no",
                       gradient_accumulation_steps=recipe.accumulate)


def _initial_model(recipe: Recipe, config: Config | WaveConfig, songs: Sequence[Track], resume: bool
                   ) -> tuple[StemModel, dict, float]:
    """The model before the first step; of the model that it is fine-tuned from, the record, and the gain to its level.

    Without one, {} and 1.
    """
    torch.manual_seed(recipe.seed)
    start = weights.load(recipe.start, "cpu") if recipe.start else None
    model = build(start.config.finetuned(config) if start else config)
    if start:
        gain = statistics.gain_to_level(model, songs)
        measured = None if resume else partial(statistics.standard_deviations, model, songs, gain)
        start_from(start, model, recipe, config.stems, measured)
        return model, start.record, gain
    if not resume:
        statistics.measure(model, songs)
    return model, {}, 1.0


def _validate(run: TrainingState, validate: Validation, journal: Logger) -> dict:
    """Validate the averaged and the current weights, and log both; returns the record of the averaged ones."""
    run.model.eval()
    found = validate(cast(StemModel, run.average.module))
    with uncompiled():
        raw = validate(run.model)
    journal.note(run.step, run.seconds, **{f"val_{k}": v for k, v in found.items()},
                 **{f"raw_{k}": v for k, v in raw.items()})
    run.model.train()
    return {"steps": run.step, "minutes": round(run.seconds / 60, 1), "validation": found}
