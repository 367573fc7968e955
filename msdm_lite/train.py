"""Training a model, on whatever there is: `msdm-lite train`. Chapter: `book/07-separation.ipynb`.

One network learns two shapes of noise at once: half of every batch has noise on all stems, half has noise that sums to
zero over the stems, so that the mixture is known. A run can be killed at any time and resumed from its last checkpoint.
"""

import json
import math
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from msdm_lite import corpus, device, diffusion, metrics, readers, weights
from msdm_lite.crops import Augmentation, Crops, Track
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import Model, preset


@dataclass(frozen=True)
class Recipe:
    """What a training run does; stored with its checkpoint and in the model's record."""

    preset: str = "lite"
    data: str = "all"  # "band", "composed", "all", or a folder of stems
    minutes: float | None = None
    steps: int | None = None
    batch: int = 8
    lr: float = 1e-3
    warmup: int = 200
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.01
    known_share: float = 0.5  # of each batch has its mixture known
    sigma_free: tuple[float, float] = (-1.6, 1.2)  # mean and deviation of ln sigma, nothing known
    sigma_known: tuple[float, float] = (0.2, 1.5)  # the same, mixture known
    gain_db: float = 2.0
    silence: float = 0.04
    remix: float = 0.0
    variations: int = 0  # of every training song, beside the song as written
    balance: str = "rms"  # or "loudness": what the levels of the corpus' stems are made equal in
    seed: int = 0


def songs_of(data: str, split: str, variations: int = 0, balance: str = "rms") -> list[Track]:
    """The songs of a split that a recipe's `data` names: "band", "composed", "all", or a folder of stems.

    A folder without splits is all training; a tenth of its songs, at least one, by name, then is for validation.

    Raises:
        InputError: `data` is neither, or the folder has no such songs.
    """
    if data in ("band", "composed", "all"):
        return corpus.songs(split, None if data == "all" else data, variations, balance)
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


def pictures(model: Model, crops: Tensor) -> Tensor:
    """MDCT pictures (B, S, bins, frames) of crops two hops longer; the frames that wrap around are cut off."""
    return model.transform.forward(crops)[..., : model.config.frames]


def crop_samples(model: Model) -> int:
    return (model.config.frames + 2) * model.config.bins


def deviations(model: Model, songs: list[Track], count: int = 400) -> Tensor:
    """Standard deviation of each stem and bin over random crops: (S, bins), floored 50 dB under the stem level."""
    crops = Crops(songs, crop_samples(model), count, seed=1)
    power = sum(pictures(model, crops[i]["stems"][None]).square().mean((0, -1)) for i in range(count)) / count
    return power.sqrt().clamp(min=2e-4)


class Following(Sampler):
    """Indices from `start` on; a resumed run goes on with the crop after the last one it saw."""

    def __init__(self, start: int, length: int):
        self.start, self.length = start, length

    def __iter__(self):
        return iter(range(self.start, self.length))

    def __len__(self) -> int:
        return self.length - self.start


class Validation:
    """Fixed crops of validation songs: loss by noise level, and separation in one evaluation."""

    LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __init__(self, model: Model, data: str, balance: str = "rms", count: int = 24):
        songs = [song for song in songs_of(data, "val", balance=balance) if getattr(song, "ready", True)]
        crops = Crops(songs, crop_samples(model), count, seed=2)
        self.x = torch.stack([pictures(model, crops[i]["stems"][None])[0] for i in range(count)])

    @torch.no_grad()
    def __call__(self, model: Model) -> dict[str, float]:
        out: dict[str, list] = {}
        generator = torch.Generator().manual_seed(0)
        for x in self.x.split(8):
            for name, known in (("free", Known.nothing(x)), ("known", Known.the_mixture(x))):
                for level in self.LEVELS:
                    value = diffusion.loss(model.denoiser, x, torch.full((len(x),), level), known, generator)
                    out.setdefault(f"{name}_{level}", []).append(value.mean().item())
            known = Known.the_mixture(x)
            sigma = torch.full((len(x),), 10.0)
            guess = model.denoise(x.mean(1, keepdim=True) + diffusion.add_noise(torch.zeros_like(x), sigma, known,
                                                                              generator), sigma, known)
            gain = metrics.si_sdr_improvement(guess.flatten(2), x.flatten(2))  # orthonormal: same in pictures
            out.setdefault("si_sdr_improvement", []).append(gain.nanmean().item())
        return {name: sum(values) / len(values) for name, values in out.items()}


def commit() -> str:
    """The git commit of the code that runs, or "unknown"."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True,
                          text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def train(recipe: Recipe, out: str | Path, resume: bool = False, on: str = "auto", progress: bool = True,
          checkpoint_minutes: float = 5.0) -> Path:
    """Train a model; writes checkpoint.pt, log.jsonl and the weights into the folder `out`, returns the weights' path.

    Raises:
        InputError: the recipe names what does not exist, songs are not rendered, or nothing to resume.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
    """
    if (recipe.minutes is None) == (recipe.steps is None):
        raise InputError("say how long to train: either --minutes or --steps")
    out = Path(out)
    saved, log = out / "checkpoint.pt", out / "log.jsonl"
    if resume and not saved.exists():
        raise InputError(f"there is no {saved} to resume from")
    if not resume and saved.exists():
        raise InputError(f"{saved} exists: add --resume to go on, or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    where = device.pick(on)
    torch.manual_seed(recipe.seed)
    songs = songs_of(recipe.data, "train", recipe.variations, recipe.balance)
    model = Model(preset(recipe.preset))
    if not resume:
        model.denoiser.deviation.copy_(deviations(model, songs))
    model = model.to(where, memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=_ramped(recipe.ema))
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": recipe.weight_decay},
                                   {"params": rest, "weight_decay": 0.0}], recipe.lr, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(recipe.seed)
    step, seconds = 0, 0.0
    if resume:
        state = torch.load(saved, map_location=where, weights_only=True)
        if state["recipe"]["preset"] != recipe.preset:
            raise InputError(f"{saved} holds the preset {state['recipe']['preset']}, not {recipe.preset}")
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        step, seconds = state["step"], state["seconds"]
    endless = 10**9 if recipe.steps is None else recipe.steps * recipe.batch
    augmentation = Augmentation(recipe.gain_db, recipe.silence, recipe.remix)
    crops = Crops(songs, crop_samples(model), endless, recipe.seed, augmentation)
    # One process beside: the crops are there when the step wants them
    loader = DataLoader(crops, recipe.batch, sampler=Following(step * recipe.batch, endless), num_workers=1,
                        prefetch_factor=8, pin_memory=where.type == "cuda")
    validate = Validation(model, recipe.data, recipe.balance)
    if where.type != "cpu":
        validate.x = validate.x.to(where)

    def share_done() -> float:
        return step / recipe.steps if recipe.steps else seconds / 60 / recipe.minutes

    def keep() -> None:
        state = {"recipe": asdict(recipe), "model": model.state_dict(), "average": average.state_dict(),
                 "optimizer": optimizer.state_dict(), "generator": generator.get_state(), "step": step,
                 "seconds": seconds}
        scratch = saved.with_suffix(".part")
        torch.save(state, scratch)
        scratch.replace(saved)

    def note(**values) -> None:
        with open(log, "a") as file:
            file.write(json.dumps({"step": step, "minutes": round(seconds / 60, 2), **values}) + "\n")

    kept = seconds
    running: list[float] = []
    total = recipe.steps or round(recipe.minutes * 60)
    bar = tqdm(total=total, initial=step if recipe.steps else round(seconds), desc=f"training {recipe.preset}",
               unit="step" if recipe.steps else "s", disable=not progress)
    last = time.perf_counter()
    batches = iter(loader)
    while share_done() < 1:
        x = pictures(model, next(batches)["stems"].to(where))  # (B, S, bins, frames)
        B = len(x)
        nothing = Known.nothing(x)
        known = Known((torch.arange(B) < round(recipe.known_share * B)).to(where), nothing.stems)
        sigma = diffusion.draw_sigma(B, Known(known.mixture.cpu(), known.stems), recipe.sigma_free,
                                     recipe.sigma_known, generator).to(where)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1, (step + 1) / recipe.warmup) * (
                0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share_done())))
        with device.autocast(where):
            each = diffusion.loss(model.denoiser, x, sigma, known, generator if where.type == "cpu" else None)
        total_loss = each.mean()
        if not torch.isfinite(total_loss):
            raise FloatingPointError(f"the loss of step {step} is {total_loss.item()}; sigma {sigma.tolist()}")
        total_loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        step += 1
        running.append(total_loss.item())
        now = time.perf_counter()
        seconds, last = seconds + now - last, now
        bar.update(1 if recipe.steps else round(seconds) - bar.n)
        if step % 50 == 0:
            note(loss=round(sum(running) / len(running), 4))
            bar.set_postfix(loss=f"{sum(running) / len(running):.3f}", step=step)
            running.clear()
        if seconds - kept > 60 * checkpoint_minutes:
            keep()
            kept = seconds
            model.eval()
            note(**{f"val_{k}": round(v, 4) for k, v in validate(average.module).items()})
            model.train()
            last = time.perf_counter()  # validation is not training time
    bar.close()
    keep()
    final = {k: round(v, 4) for k, v in validate(average.module).items()}
    note(**{f"val_{k}": v for k, v in final.items()})
    record = {"recipe": asdict(recipe), "steps": step, "minutes": round(seconds / 60, 1), "songs": len(songs),
              "hours_of_music": round(float(crops.lengths.sum()) / model.sample_rate / 3600, 2),
              "device": where.type, "processor": device.processor(),
              "precision": "bfloat16" if device.fast_bfloat16(where.type) else "float32",
              "commit": commit(), "validation": final,
              "command": f"msdm-lite train --preset {recipe.preset} --data {recipe.data} "
                         + (f"--minutes {recipe.minutes:g}" if recipe.minutes else f"--steps {recipe.steps}")}
    return weights.save(average.module, out / f"{recipe.preset}.safetensors", record)


def _ramped(decay: float):
    """An exponential moving average that starts short, so that the first random weights are forgotten soon."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = float(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
