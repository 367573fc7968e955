"""Paired short training runs that measure the effect of each choice in the training of `lite`.

`python -m msdm_lite.studies training-ablations --out FILE` changes one choice in each arm. All arms see the same crops
with the same noise in the same order, so that a difference is due to the choice and not to chance. A short run shows
which choice trains faster. That it also ends better is likely, but not shown. `--of widening` measures what wider data
cost a model of fixed size: each arm adds a kind of music to the one before, all arms see the same number of crops, and
all are evaluated on the narrowest music and on the added kinds. Chapter: `book/05-training.ipynb`.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from msdm_lite.data.dataset import Augmentation, Crops, songs_of
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import error
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.models import weights
from msdm_lite.models.config import PRESETS
from msdm_lite.models.joint import Model
from msdm_lite.studies.runner import Run, study
from msdm_lite.training import loop, statistics
from msdm_lite.training.batches import crop_samples, encode_all_crops
from msdm_lite.training.recipe import Recipe
from msdm_lite.training.validation import Validation, by_noise_level


def without_gains(model: Model) -> None:
    """Set the second of the network's three outputs, the correction of the Wiener gain, to zero (see `Denoiser`)."""
    S = len(model.stems)

    def drop(_module, _inputs, out: Tensor) -> Tensor:
        return torch.cat([out[:, :S], torch.zeros_like(out[:, S : 2 * S]), out[:, 2 * S :]], 1)

    model.denoiser.net.register_forward_hook(drop)


def one_deviation(model: Model) -> None:
    """Use one standard deviation of the same power for all stems and bins: EDM's preconditioning as published."""
    std = model.denoiser.std
    std.fill_(std.square().mean().sqrt().item())


def as_it_is(model: Model) -> None:
    """Change nothing."""


@dataclass(frozen=True)
class Arm:
    """One changed choice: in the recipe, in the model before training (`start`), or from then on (`always`)."""

    recipe: dict = field(default_factory=dict)
    start: Callable[[Model], None] = as_it_is
    always: Callable[[Model], None] = as_it_is


# Tolerances of errors and of dB: how far they may differ when the same command trains again on another machine
LEARNED: records.Tolerance = {"": records.SLIGHT, "si_sdr_improvement": records.TOLERANCE}
ARMS = {
    "as shipped": Arm(),
    "one standard deviation for all bins": Arm(start=one_deviation),
    "no mask head": Arm(always=without_gains),
    "the paper's noise levels": Arm({"sigma_free": (-3.0, 1.0), "sigma_known": (-3.0, 1.0)}),
    "no gain augmentation": Arm({"gain_db": 0.0}),
}
WIDENINGS = {
    "songs by the program": Arm({"data": "band", "detune": 0.0}),
    "and by people": Arm({"data": "all", "detune": 0.0}),
    "and half the crops up to 50 cents off": Arm({"data": "all", "detune": 50.0}),
    "and each song in another key, by other instruments": Arm({"data": "all", "detune": 50.0, "variations": 1,
                                                               "soundfonts": False}),
    "and through other soundfonts": Arm({"data": "all", "detune": 50.0, "variations": 1}),
}


def crops_for_scoring(of: str, model: Model, data: str = "all", n: int = 48) -> dict[str, Tensor]:
    """Fixed crops (n, S, bins, L) of validation songs by name, for the study "training" or "widening"."""
    def some(data: str, **augmentation: float) -> Tensor:
        return encode_all_crops(model, Crops(songs_of(data, "val"), crop_samples(model), n, seed=3,
                                augmentation=Augmentation(**augmentation)))

    if of == "training":
        return {"balanced": some(data), "unbalanced": some(data, gain_db=6.0)}
    return {"by the program": some("band"), "by people": some("composed"), "out of tune": some("band", detune=50.0)}


@torch.no_grad()
def score_on_crops(model: Model, x: Tensor, std: Tensor) -> dict[str, float]:
    """Errors on clean x (B, S, bins, L) by conditioning and noise level, and SI-SDR improvement in dB.

    1 is the error of a Wiener filter with the standard deviations `std` (S, bins), which need not be the model's own.
    """

    def measured(x: Tensor, sigma: Tensor, known: Conditioning, noise: Tensor) -> Tensor:
        return error(model.denoise(add_noise(x, sigma, known, n=noise), sigma, known), x, sigma, std)

    return by_noise_level(model, x, measured, Validation.LEVELS)


ABOUT = {
    "training": {
        "what": "paired short runs: one choice changed in each, same crops and same noise; which learns sooner",
        "data": "48 fixed crops of validation songs; unbalanced: each stem's gain drawn with 6 dB deviation"},
    "widening": {
        "what": "short runs of one network on ever wider data, as many crops in each: what a widening costs and brings",
        "data": "48 fixed crops of validation songs of each kind; out of tune: half of them up to 50 cents off"},
}


@study("training-ablations", records=("pairs-widening", "pairs-training"),
       measures="paired short training runs, one choice changed in each", tolerance=LEARNED, unsaid=("of",))
def main(run: Run, steps: int = 250, preset: str = "lite", data: str = "all",
         of: Literal["training", "widening"] = "training", seed: int = 0) -> dict:
    """Train every arm for `steps` steps and write its scores. A stopped run resumes with the arms that are missing.

    Args:
        steps: of each arm.
        preset: lite or tiny.
        data: what to train on; not with `widening`, where each arm has its own.
        of: training, its choices; or widening, its data: then `msdm-lite data build --variations 1` comes first, with
            and without `--no-soundfonts`.
        seed: of weights, crops and noise, the same for all arms.

    Raises:
        InputError: a preset that does not exist or is of waveforms, or `data` with `widening`.
    """
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r} of MDCT spectrograms; there are {', '.join(PRESETS)}")
    if of == "widening" and data != "all":
        raise InputError("each widening says its own data: leave --data out")
    base = Recipe(preset=preset, data=data, steps=steps, seed=seed)
    reference = Model(PRESETS[preset])
    std = statistics.standard_deviations(reference, songs_of(data, "train"))
    sets = crops_for_scoring(of, reference, data)
    arms = {}
    for name, arm in (ARMS if of == "training" else WIDENINGS).items():
        part = run.keep(name, partial(trained_and_scored, arm, base, sets, std))
        arms[name], run.precision = part["scores"], part["precision"]
        print(name, {kind: one["si_sdr_improvement"] for kind, one in arms[name].items()})
    return {**ABOUT[of],
            "errors": "1 is what the Wiener filter leaves; si_sdr_improvement: dB, mixture known, one evaluation",
            "steps": steps, "batch": base.batch, "n": f"one run each, seed {seed}", "seed": seed, "arms": arms}


def trained_and_scored(arm: Arm, base: Recipe, sets: dict[str, Tensor], std: Tensor) -> dict:
    """Train a recipe with one choice changed: `score_on_crops` of each set of crops, and the precision of the run."""
    def change(model: Any) -> None:
        arm.start(model)
        arm.always(model)

    with tempfile.TemporaryDirectory() as folder:
        model: Any = weights.load(loop.train(replace(base, **arm.recipe), folder, change=change, device="cpu"), "cpu")
    arm.always(model)
    return {"scores": {kind: score_on_crops(model, x, std) for kind, x in sets.items()},
            "precision": model.record["precision"]}
