"""A joint model against a model of mixes: FAD of the mixes that each generates.

The paper compares its joint model with the same network trained on mixtures alone, and finds their mixes about equally
good (arXiv 2302.02257, section 5). `python -m msdm_lite.studies joint-vs-mixture --out FILE` trains two networks that
differ in their first and last layer, on the same crops and for the same number of steps, both conditioned on the noise
level alone. Each then generates the same number of mixes, which are compared with test songs. Chapter:
`book/10-measuring.ipynb`.
"""

import shutil
import time
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.evaluation import coherence, fad, records
from msdm_lite.inference import generation
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.studies import distance
from msdm_lite.studies.runner import Run, study
from msdm_lite.training import loop
from msdm_lite.training.recipe import Recipe

# The tolerance of each number, by its name: how far it may differ when the same command trains on another machine
ANEW: records.Tolerance = {"": "10 %", "error": "50 %"}
SAME = ("preset", "data", "batch", "seed")  # fields of a recipe that stay the same when a run resumes
ARMS = {"joint": Recipe(preset="lite", shapes=(1.0, 0.0, 0.0, 0.0), sketched=0.0), "mixes": Recipe(preset="lite-mix")}


def trained_in(folder: Path, recipe: Recipe, device: str, resident: bool, compile: bool) -> Path:
    """Train a recipe in a folder, or resume its run there, unless it is complete; returns the path of the weights.

    Raises:
        InputError: the folder has weights of another recipe, or of more steps; and what `loop.train` raises.
    """
    path = folder / f"{recipe.preset}.safetensors"
    before: dict[str, Any] = {"steps": 0, "recipe": asdict(recipe)}
    if path.exists():
        before = weights.load(path, "cpu").record
    if before["steps"] > recipe.steps or any(before["recipe"][key] != getattr(recipe, key) for key in SAME):
        raise InputError(f"{folder} has a model that was learned otherwise: choose another folder, or remove it")
    if before["steps"] == recipe.steps:
        return path
    return loop.train(recipe, folder, resume=(folder / "checkpoint.pt").exists(), device=device, compile=compile,
                      resident=resident)


def described(model: StemModel, made: Tensor) -> dict:
    """Size and training of the model of bands (n, S, T); `sounding`: share of bands in which each stem is audible."""
    return {"parameters": sum(p.numel() for p in model.parameters()),
            **{key: model.record[key] for key in ("steps", "validation")},
            "sounding": coherence.audible(made).float().mean(0).tolist()}


@study("joint-vs-mixture", records=("mixes",), measures="a joint model against a model of mixtures", tolerance=ANEW,
       unsaid=("runs", "device", "resident", "compile"))
def main(run: Run, steps: int = 2500, batch: int = 8, n: int = 300, seconds: float = 6.0, data: str = "band",
         seed: int = 0, runs: Path | None = None, device: str = "auto", resident: bool = False,
         compile: bool = False) -> dict:
    """Train both models, generate mixes with both, and write their distances to real music.

    Args:
        steps: training steps of each model.
        batch: crops in a step.
        n: number of mixes from each model, eight or more.
        seconds: duration of each mix, three or more.
        data: band, composed or all: the corpus that models are trained on and mixes are compared with.
        seed: seed of weights, crops and noise.
        runs: folder of the two training runs; a stopped run resumes there. If not given, they are in a folder beside
            the result that is removed at the end.
        device: auto, cpu or cuda.
        resident: keep the songs in the memory of the GPU, as for `msdm-lite train`.
        compile: compile the networks first, as for `msdm-lite train`.

    Raises:
        InputError: too few mixes, or too short; or a folder with weights of another recipe.
    """
    if n < 8 or seconds < 3:
        raise InputError(f"{n} mixes of {seconds:g} s: eight of three seconds are the least")
    (crops, songs, _), (held, *_) = (distance.real_bands(data, split, n, seconds, seed) for split in ("train", "test"))
    learned, test = fad.embed_mixtures(crops), fad.embed_mixtures(held)
    kept_in = runs or run.out.with_name(f"{run.out.stem}-runs")
    arms, learning = {}, {}
    for name, arm in ARMS.items():
        recipe = replace(arm, steps=steps, batch=batch, data=data, seed=seed)
        path = trained_in(kept_in / name, recipe, device, resident, compile)

        def measured(path: Path = path) -> dict:
            begun, model = time.perf_counter(), weights.load(path, device)
            made = generation.generate(model, seconds, n, seed, progress=True)
            distances = distance.distances_to_songs(made, learned, test, seed, learned_songs=songs)
            took = {key: model.record[key] for key in ("minutes", "processor", "precision")}
            return {"arm": described(model, made) | distances,
                    "learning": took | {"seconds": time.perf_counter() - begun}}

        part = run.keep(f"{name} {zlib.crc32(path.read_bytes()):08x}", measured)  # of these weights and no others
        arms[name], learning[name] = part["arm"], part["learning"]
        print(f"{name}: distance {arms[name]['made']['fad']:.1f}, training songs {arms[name]['train']['fad']:.1f}")
    run.load(path, device)
    if runs is None:
        run.at_end(lambda: shutil.rmtree(kept_in))
    return {
        "what": "Frechet distance of musicnn embeddings of mixes to songs of the test split: made by a joint model, "
                "and by one of the same network trained on mixes alone; both were conditioned on the noise level alone",
        "data": data, "n": n, "settings": {"steps": steps, "batch": batch, "seconds": seconds}, "seed": seed,
        "arms": arms, "learning": learning,
        "wall_seconds": sum(60 * one["minutes"] + one["seconds"] for one in learning.values())}
