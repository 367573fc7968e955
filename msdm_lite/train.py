"""Training a model, on whatever there is: `msdm-lite train`. Chapter: `book/07-separation.ipynb`.

A model of pictures learns two shapes of noise at once: half of every batch has noise on all stems, half has noise that
sums to zero over the stems, so that the mixture is known. A model of waveforms learns the first only, as in the paper.

One loop serves a CPU, a GPU, several, and several machines: `torchrun --nproc_per_node 8 -m msdm_lite train ...` starts
the processes (`accelerate launch` does too, for GPUs), and HF Accelerate joins their gradients. Crop, noise level and
noise of item number i depend on the seed and i alone. So a run does not depend on how its batches are shared out among
processes, and one that was killed goes on as if it had not been.
"""

import contextlib
import json
import math
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from msdm_lite import corpus, device, metrics, readers, separation, weights
from msdm_lite.crops import Augmentation, Crops, Track
from msdm_lite.diffusion import add_noise
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import Model, build, preset
from msdm_lite.wave import WaveModel


@dataclass(frozen=True)
class Recipe:
    """What a training run does; stored with its checkpoint and in the model's record. None: what suits the preset."""

    preset: str = "lite"
    data: str = "all"  # "band", "composed", "all", or a folder of stems
    minutes: float | None = None
    steps: int | None = None
    batch: int = 8  # crops a process takes at once
    accumulate: int = 1  # such batches in a step
    lr: float | None = None
    warmup: int = 200
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.01
    known_share: float = 0.5  # of the crops have their mixture known
    sigma_free: tuple[float, float] | None = None  # mean and deviation of ln sigma, nothing known
    sigma_known: tuple[float, float] = (0.2, 1.5)  # the same, mixture known
    gain_db: float = 2.0
    silence: float = 0.04
    remix: float = 0.0
    variations: int = 0  # of every training song, beside the song as written
    programs: bool = True  # the variations have other instruments of the family,
    transpose: bool = True  # are in other keys,
    soundfonts: bool = True  # and come from either of two soundfonts
    balance: str = "rms"  # or "loudness": what the levels of the corpus' stems are made equal in
    seed: int = 0
    log_every: int = 50  # steps

    def for_model(self, model: Model | WaveModel) -> "Recipe":
        """With nothing left open. The waveforms' values are the paper's (arXiv 2302.02257)."""
        pictures = isinstance(model, Model)
        return replace(self, lr=self.lr or (1e-3 if pictures else 1e-4),
                       sigma_free=self.sigma_free or ((-1.6, 1.2) if pictures else (-3.0, 1.0)),
                       known_share=self.known_share if model.takes_known else 0.0)

    def command(self) -> str:
        """The command line that does the same, but for what only Python can change."""
        words = [f"msdm-lite train --preset {self.preset} --data {self.data}"]
        for name in ("batch", "accumulate", "lr", "gain_db", "silence", "remix", "variations", "programs", "transpose",
                     "soundfonts", "balance", "seed", "minutes", "steps"):
            value, flag = getattr(self, name), name.replace("_", "-")
            if value != getattr(Recipe, name):
                words.append(f"--no-{flag}" if value is False else f"--{flag} {value:g}"
                             if isinstance(value, float) else f"--{flag} {value}")
        return " ".join(words)


def songs_of(data: str, split: str, variations: int = 0, balance: str = "rms",
             **switches: bool) -> list[Track]:
    """The songs of a split that a recipe's `data` names: "band", "composed", "all", or a folder of stems.

    A folder without splits is all training; a tenth of its songs, at least one, by name, then is for validation.

    Raises:
        InputError: `data` is neither, or the folder has no such songs.
    """
    if data in ("band", "composed", "all"):
        return corpus.songs(split, None if data == "all" else data, variations, balance, **switches)
    if not Path(data).exists():
        raise InputError(f"data is band, composed, all or a folder of stems, not {data!r}")
    tracks = readers.find(data)
    if any(track.split for track in tracks):
        found = [track for track in tracks if track.split == split]
    else:
        held = max(1, len(tracks) // 10)
        found = tracks[:held] if split == "val" else tracks[held:] or tracks
    if not found:
        raise InputError(f"{data} has no songs of the split {split!r}")
    return found


def pictures(model: Model | WaveModel, crops: Tensor) -> Tensor:
    """MDCT pictures (B, S, bins, frames) of crops two hops longer; the frames that wrap around are cut off."""
    return model.transform.forward(crops)[..., : model.config.frames]


def crop_samples(model: Model | WaveModel) -> int:
    return (model.config.frames + 2) * model.config.bins


def deviations(model: Model | WaveModel, songs: list[Track], count: int = 400) -> Tensor:
    """Standard deviation of each stem and bin over random crops: (S, bins), floored 50 dB under the stem level."""
    crops = Crops(songs, crop_samples(model), count, seed=1)
    power = sum(pictures(model, crops[i]["stems"][None]).square().mean((0, -1)) for i in range(count)) / count
    return power.sqrt().clamp(min=2e-4)


class Order(Sampler):
    """The items of one process, from a step on: each step's are shared out in turns of `batch`."""

    def __init__(self, step: int, recipe: Recipe, rank: int = 0, world: int = 1):
        self.step, self.recipe, self.rank, self.world = step, recipe, rank, world

    def __iter__(self) -> Iterator[int]:
        turn = self.step * self.recipe.accumulate
        while True:
            first = (turn * self.world + self.rank) * self.recipe.batch
            yield from range(first, first + self.recipe.batch)
            turn += 1


def noise_of(items: Tensor, x: Tensor, recipe: Recipe) -> tuple[Tensor, Known, Tensor]:
    """For items (B,) of clean x (B, S, ...): levels (B,), what is known, white noise like x. By seed and item alone."""
    share = recipe.known_share
    mixture = torch.floor((items + 1) * share) > torch.floor(items * share)  # evenly spread
    noise = torch.empty_like(x)
    z = torch.empty(len(items))
    generators = {kind: torch.Generator(kind) for kind in {"cpu", x.device.type}}
    for row, item in enumerate(items.tolist()):
        seed = int(np.random.SeedSequence((recipe.seed, 1, item)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        for generator in generators.values():
            generator.manual_seed(seed)
        z[row] = torch.randn((), generator=generators["cpu"])
        noise[row] = torch.randn(x.shape[1:], generator=generators[x.device.type], device=x.device, dtype=x.dtype)
    mean, deviation = (torch.where(mixture, known, free)
                       for free, known in zip(recipe.sigma_free, recipe.sigma_known, strict=True))
    nothing = Known.nothing(x)
    return (mean + deviation * z).exp().to(x), Known(mixture.to(x.device), nothing.stems), noise


class Validation:
    """Fixed crops of validation songs: loss by noise level, and the SI-SDR improvement of a quick separation.

    Quick: one evaluation where the model can be told the mixture; sixteen of Dirac on fewer crops where it cannot.
    """

    LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __init__(self, model: Model | WaveModel, data: str, balance: str = "rms", count: int = 24):
        songs = [song for song in songs_of(data, "val", balance=balance) if getattr(song, "ready", True)]
        crops = Crops(songs, crop_samples(model), count, seed=2)
        self.x = torch.stack([pictures(model, crops[i]["stems"][None])[0] for i in range(count)])

    @torch.no_grad()
    def __call__(self, model: Model | WaveModel) -> dict[str, float]:
        out: dict[str, list] = {}
        generator = torch.Generator().manual_seed(0)

        def noise(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=generator).to(x)

        for x in self.x.to(model.device).split(8 if model.takes_known else 2):
            ways = {"free": Known.nothing(x)} | ({"known": Known.the_mixture(x)} if model.takes_known else {})
            for name, known in ways.items():
                for level in self.LEVELS:
                    value = model.loss(x, torch.full((len(x),), level).to(x), known, noise(x))
                    out.setdefault(f"{name}_{level}", []).append(value.mean().item())
            if model.takes_known:
                known = Known.the_mixture(x)
                sigma = torch.full((len(x),), 10.0).to(x)
                start = x.mean(1, keepdim=True) + add_noise(torch.zeros_like(x), sigma, known, n=noise(x))
                guess = model.denoise(start, sigma, known)
            elif len(out.get("si_sdr_improvement", [])) < 4:
                states = separation.separate_pictures(x.sum(1), model.denoise, x.shape[1], "dirac", 16, generator,
                                                      corrections=1)
                *_, state = states
                guess = state.x
            else:
                continue
            gain = metrics.si_sdr_improvement(guess.flatten(2), x.flatten(2))  # orthonormal: same in pictures
            out.setdefault("si_sdr_improvement", []).append(gain.nanmean().item())
        return {name: round(sum(values) / len(values), 4) for name, values in out.items()}


class Objective(nn.Module):
    """The loss as a module: what Accelerate wraps, so that gradients meet where several processes train."""

    def __init__(self, model: Model | WaveModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor) -> Tensor:
        return self.model.loss(x, sigma, known, noise).mean()


def commit() -> str:
    """The git commit of the code that runs, or "unknown"."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


class Journal:
    """What happened, as JSON lines and for TensorBoard. Lines of steps that a killed run did in vain are dropped."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / "log.jsonl"
        kept = self.path.read_text().splitlines(keepends=True) if step and self.path.exists() else []
        scratch = self.path.with_suffix(".part")
        scratch.write_text("".join(line for line in kept if line.endswith("\n") and json.loads(line)["step"] <= step))
        scratch.replace(self.path)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1, flush_secs=30)
        except ImportError:
            self.board = None

    def note(self, step: int, seconds: float, **values: float) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, "minutes": round(seconds / 60, 2), **values}) + "\n")
        for name, value in values.items() if self.board else ():
            self.board.add_scalar(name.replace("_", "/", 1), value, step)

    def close(self) -> None:
        if self.board:
            self.board.close()


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
          checkpoint_minutes: float = 5.0, compiled: bool = False, workers: int = 1) -> Path:
    """Train a model; writes checkpoint.pt, log.jsonl, tensorboard/ and the weights into `out`; returns their path.

    Args:
        resume: go on from the checkpoint in `out`.
        on: "auto", "cpu" or "cuda".
        checkpoint_minutes: time between checkpoints; each is followed by a validation.
        compiled: let torch.compile work on the network first.
        workers: processes that read crops, beside each process that trains.

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
    out = Path(out)
    saved = out / "checkpoint.pt"
    if resume and not saved.exists():
        raise InputError(f"there is no {saved} to resume from")
    if not resume and saved.exists():
        raise InputError(f"{saved} exists: add --resume to go on, or choose another folder")
    config = preset(recipe.preset)
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
    model = build(config)
    asked, recipe = recipe, recipe.for_model(model)
    state = None
    if resume:
        state = torch.load(saved, map_location="cpu", weights_only=True)
        if state["recipe"]["preset"] != recipe.preset:
            raise InputError(f"{saved} holds the preset {state['recipe']['preset']}, not {recipe.preset}")
        if {k: v.shape for k, v in state["model"].items()} != {k: v.shape for k, v in model.state_dict().items()}:
            raise InputError(f"{saved} holds a {recipe.preset} of other sizes than this version's")
        model.load_state_dict(state["model"])
    elif isinstance(model, Model):
        model.denoiser.deviation.copy_(deviations(model, songs))
    model = weights.placed(model, where)
    average = AveragedModel(model, multi_avg_fn=_ramped(recipe.ema))
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": recipe.weight_decay},
                                   {"params": rest, "weight_decay": 0.0}], recipe.lr, betas=(0.9, 0.99))
    step, seconds = 0, 0.0
    if state:
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        del state
    if compiled:
        model.denoiser.net.compile()  # in place: names of weights stay
    out.mkdir(parents=True, exist_ok=True)
    size = 5 * 4 * sum(p.numel() for p in model.parameters())  # weights, average, two moments; and something over
    if shutil.disk_usage(out).free < 2 * size:
        raise InputError(f"{out}: a checkpoint takes {size / 1e9:.2f} GB, twice while it is written; the disk is full")
    objective, prepared = accelerator.prepare(Objective(model), optimizer)

    crops = Crops(songs, crop_samples(model), 2**62, recipe.seed,
                  Augmentation(recipe.gain_db, recipe.silence, recipe.remix))
    # Processes beside this one: the crops are there when the step wants them
    loader = DataLoader(crops, recipe.batch, sampler=Order(step, recipe, accelerator.process_index, world),
                        num_workers=workers, prefetch_factor=8, pin_memory=where.type == "cuda",
                        persistent_workers=True)
    validate = Validation(model, recipe.data, recipe.balance) if main else None
    journal = Journal(out, step) if main else None

    def keep() -> None:
        """The checkpoint, whole or not at all."""
        if not main:
            return
        state = {"recipe": asdict(recipe), "model": model.state_dict(), "average": average.state_dict(),
                 "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
        scratch = saved.with_suffix(".part")
        try:
            torch.save(state, scratch)
            scratch.replace(saved)
        except (OSError, RuntimeError) as problem:  # torch says RuntimeError when the disk is full
            scratch.unlink(missing_ok=True)
            kept = "the one before it is whole; --resume goes on from there" if saved.exists() else "there is none yet"
            raise InputError(f"the checkpoint of step {step} cannot be written to {out} "
                             f"({str(problem).splitlines()[0]}); {kept}") from None

    def judge() -> dict[str, float]:
        """Validation of the averaged weights and of the last ones, on record."""
        model.eval()
        found = validate(average.module)
        journal.note(step, seconds, **{f"val_{k}": v for k, v in found.items()},
                     **{f"raw_{k}": v for k, v in validate(model).items()})
        model.train()
        return found

    def share_done() -> float:
        return step / recipe.steps if recipe.steps else seconds / 60 / recipe.minutes

    running: list[float] = []
    total = recipe.steps or round(recipe.minutes * 60)
    bar = tqdm(total=total, initial=step if recipe.steps else round(seconds), desc=f"training {recipe.preset}",
               unit="step" if recipe.steps else "s", disable=not (progress and main))
    batches = iter(loader)
    kept = seconds
    last = time.perf_counter()
    with interruptible() as pressed:
        while share_done() < 1:
            for group in prepared.param_groups:
                group["lr"] = recipe.lr * min(1, (step + 1) / recipe.warmup) * (
                    0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share_done())))
            heard, value = [], torch.zeros((), device=where)
            for turn in range(recipe.accumulate):
                batch = next(batches)
                heard += [f"{name} at {start}" for name, start in zip(batch["name"], batch["start"].tolist(),
                                                                      strict=True)]
                x = pictures(model, batch["stems"].to(where, non_blocking=True))  # (B, S, bins, frames)
                first = ((step * recipe.accumulate + turn) * world + accelerator.process_index) * recipe.batch
                sigma, known, noise = noise_of(torch.arange(first, first + recipe.batch), x, recipe)
                with accelerator.accumulate(objective):
                    mean = objective(x, sigma, known, noise)
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
                if main:
                    journal.note(step, seconds, loss=round(recent, 6))
                running.clear()
            if stop:
                keep()
                raise KeyboardInterrupt
            if seconds - kept > 60 * checkpoint_minutes:
                keep()
                kept = seconds
                if main and share_done() < 1:
                    judge()
                last = time.perf_counter()  # validation is not training time
    bar.close()
    keep()
    path = out / f"{recipe.preset}.safetensors"
    if main:
        record = {"recipe": asdict(recipe), "steps": step, "minutes": round(seconds / 60, 1), "songs": len(songs),
                  "hours_of_music": round(float(crops.lengths.sum()) / model.sample_rate / 3600, 2),
                  "device": where.type, "processes": world, "processor": device.processor(),
                  "precision": "bfloat16" if half else "float32", "commit": commit(), "validation": judge(),
                  "command": asked.command()}
        weights.save(average.module, path, record)
        journal.close()
    accelerator.wait_for_everyone()
    return path


def _ramped(decay: float):
    """An exponential moving average that starts short, so that the first random weights are forgotten soon."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = float(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
