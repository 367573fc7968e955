"""Short paired runs: what each choice in the training of `lite` is worth. `python -m msdm_lite.pairs --out FILE`.

Each arm changes one thing. All arms see the same crops with the same noise in the same order, so that a difference is
the choice's and not the draw's. Short runs say what learns sooner, and only make it likely that it also ends better.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

from msdm_lite import __version__, device, metrics, train, weights
from msdm_lite.crops import Augmentation, Crops
from msdm_lite.diffusion import add_noise
from msdm_lite.known import Known
from msdm_lite.model import Model, build
from msdm_lite.train import Recipe, Validation


def without_gains(model: Model) -> Model:
    """The network's correction of the Wiener gain is not used: it only adds."""
    S = len(model.stems)

    def drop(_module, _inputs, out: Tensor) -> Tensor:
        return torch.cat([out[:, :S], torch.zeros_like(out[:, S : 2 * S]), out[:, 2 * S :]], 1)

    model.denoiser.net.register_forward_hook(drop)
    return model


def one_deviation(deviation: Tensor) -> Tensor:
    """The same for all stems and bins, with the same power: EDM's preconditioning as published."""
    return deviation.square().mean().sqrt().expand_as(deviation).clone()


PAPERS = {"sigma_free": (-3.0, 1.0), "sigma_known": (-3.0, 1.0)}
ARMS: dict[str, tuple[dict, bool, bool]] = {  # changes to the recipe, one deviation, no gains
    "as shipped": ({}, False, False),
    "one standard deviation for all bins": ({}, True, False),
    "no mask head": ({}, False, True),
    "the paper's noise levels": (PAPERS, False, False),
    "no gain augmentation": ({"gain_db": 0.0}, False, False),
}


@torch.no_grad()
def judge(model: Model, x: Tensor, v: Tensor) -> dict[str, float]:
    """Errors of x (B, S, bins, L) in units of what a filter that knows variances v (S, bins) leaves, and SI-SDRi."""
    out: dict[str, list] = {}
    generator = torch.Generator().manual_seed(0)
    v = v[:, :, None]
    weight = (v / v.mean()).sqrt()
    for some in x.split(8):
        for name, known in (("free", Known.nothing(some)), ("known", Known.the_mixture(some))):
            for level in (*Validation.LEVELS, 10.0):
                sigma = torch.full((len(some),), level)
                noisy = add_noise(some, sigma, known, generator)
                if level == 10.0:
                    if name == "known":
                        guess = model.denoise(noisy, sigma, known)
                        gain = metrics.si_sdr_improvement(guess.flatten(2), some.flatten(2))
                        out.setdefault("si_sdr_improvement", []).append(gain.nanmean().item())
                    continue
                error = (model.denoise(noisy, sigma, known) - some).square() * (v + level**2) / (v * level**2)
                out.setdefault(f"{name}_{level}", []).append((weight * error).mean().item() / weight.mean().item())
    return {name: round(sum(values) / len(values), 4) for name, values in out.items()}


def main(out: Path, steps: int = 250, preset: str = "lite", data: str = "all", seed: int = 0) -> None:
    """Train every arm for that many steps and write what came out.

    Args:
        out: the JSON file; written after every arm.
        steps: of each arm.
        preset: lite or tiny.
        data: what to train on.
        seed: of weights, crops and noise, the same for all arms.
    """
    original, measured = build, train.deviations
    base = Recipe(preset=preset, data=data, steps=steps, seed=seed)
    reference = Model(train.preset(preset))
    v = measured(reference, train.songs_of(data, "train")).square()
    songs = train.songs_of(data, "val")
    samples = train.crop_samples(reference)
    sets = {"balanced": Crops(songs, samples, 48, seed=3),
            "unbalanced": Crops(songs, samples, 48, seed=3, augmentation=Augmentation(gain_db=6.0))}
    found = {"what": "paired short runs: one choice changed in each, same crops and same noise; which learns sooner",
             "data": "48 fixed crops of validation songs; unbalanced: each stem's gain drawn with 6 dB deviation",
             "errors": "1 is what the Wiener filter leaves; si_sdr_improvement: dB, mixture known, one evaluation",
             "steps": steps, "batch": base.batch, "n": f"one run each, seed {seed}", "arms": {}, "device": "cpu",
             "processor": device.processor(), "commit": train.commit(), "version": __version__,
             "command": f"python -m msdm_lite.pairs --preset {preset} --data {data} --steps {steps} --seed {seed}"}
    for name, (changes, flat, bare) in ARMS.items():
        def made(config, bare=bare) -> Model:
            return without_gains(original(config)) if bare else original(config)

        def deviations(model, songs, flat=flat) -> Tensor:
            return one_deviation(measured(model, songs)) if flat else measured(model, songs)

        train.build, train.deviations = made, deviations
        try:
            with tempfile.TemporaryDirectory() as folder:
                model = weights.load(train.train(replace(base, **changes), folder, on="cpu"), "cpu")
        finally:
            train.build, train.deviations = original, measured
        model = without_gains(model) if bare else model
        found["arms"][name] = {kind: judge(model, torch.stack(
            [train.pictures(model, crops[i]["stems"][None])[0] for i in range(len(crops))]), v)
            for kind, crops in sets.items()}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(name, {kind: one["si_sdr_improvement"] for kind, one in found["arms"][name].items()})


if __name__ == "__main__":
    tyro.cli(main)
