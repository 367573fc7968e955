"""Does a model use the other stems? Its denoising error for each stem beside the true and beside mismatched stems.

If the model has captured nothing that the stems of a song share, both errors are equal, as they are for independent
models. Their difference at each noise level measures the value of context, and so the joint likelihood, without any
sampling. Source: the question of arXiv 2302.02257, section 4; Vincent, 2011, for the loss. Chapter:
`book/09-does-context-matter.ipynb`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import STEMS
from msdm_lite.data import example_clips
from msdm_lite.diffusion.denoiser import error
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
from msdm_lite.models.base import StemModel
from msdm_lite.studies.runner import Run, study

SLIGHT = 0.005  # the tolerance of a record: context saves a few hundredths of the error
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@torch.no_grad()
def errors(model: StemModel, x: Tensor, sigma: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Errors of the denoised stems of clean x (N, S, bins, L), each item of another song, at one level: (N, S) twice.

    The first is beside the true stems. For the second all other stems come from the next item; the stem itself and all
    noise are unchanged. The unit is the error of a Wiener filter (`msdm_lite.diffusion.denoiser.error`).

    Raises:
        InputError: there is only one item.
    """
    if len(x) < 2:
        raise InputError("one song has no other to take stems from")
    x = x.to(model.device)
    level = torch.full((1,), sigma, device=x.device)
    std = model.variance[..., 0].sqrt().expand(-1, x.shape[2])  # (S, bins)
    n = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    true, shuffled = torch.zeros(2, *x.shape[:2])
    for item in range(len(x)):
        own, other = x[item : item + 1], x[(item + 1) % len(x)][None]
        guess = model.denoise(add_noise(own, level, n=n[item : item + 1]), level)
        for stem in range(x.shape[1]):
            company = other.clone()
            company[:, stem] = own[:, stem]
            mixed = model.denoise(add_noise(company, level, n=n[item : item + 1]), level)
            one = slice(stem, stem + 1)
            true[item, stem] = error(guess[:, one], own[:, one], level, std[one])
            shuffled[item, stem] = error(mixed[:, one], own[:, one], level, std[one])
    return true, shuffled


def measure(model: StemModel, x: Tensor, levels: Sequence[float] = LEVELS, seed: int = 0) -> list[dict]:
    """For each noise level and stem: mean error beside the true and beside mismatched stems, over x (N, S, bins, L).

    With eight items or more, also the share of the error that context saves, with its bootstrap interval over items.
    """
    found = []
    for sigma in tqdm(levels, desc="levels", leave=False):
        true, shuffled = errors(model, x, sigma, seed)
        for stem, name in enumerate(model.stems):
            saved = (1 - true[:, stem] / shuffled[:, stem]).tolist()
            row = {"sigma": sigma, "stem": name, "true": true[:, stem].mean().item(),
                   "shuffled": shuffled[:, stem].mean().item()}
            if len(saved) >= 8:
                row |= dict(zip(("saved", "low", "high"), metrics.bootstrap(saved), strict=True))
            found.append(row)
    return found


@study("context", records=("context-lite",), measures="denoising error beside the true and beside other stems",
       tolerance=SLIGHT)
def main(run: Run, model: str = "lite", clips: int = 24, seed: int = 0) -> dict:
    """Measure the value of context on the shipped band clips and write one JSON file.

    Args:
        model: a shipped name or a path.
        clips: number of clips, two or more; from 8 on there are intervals.
        seed: seed of the noise.

    Raises:
        InputError: fewer than two clips, or a model of other stems.
    """
    if clips < 1:
        raise InputError(f"{clips} clips are none to measure on")
    loaded = run.load(model)
    loaded.require_stems(STEMS)
    span = loaded.config.frames * loaded.config.bins
    names = [entry["name"] for entry in example_clips.clips("band")][:clips]
    mdct: Any = loaded.transform
    x = torch.stack([mdct.forward(example_clips.clip(name)[:, :span]) for name in names])
    return {"what": "error of a denoised stem, over a Wiener filter's, in true company and in that of another song",
            "data": "shipped band clips, one segment each", "n": len(names), "model": model,
            "interval": "95 % percentile bootstrap over songs", "rows": measure(loaded, x, seed=seed), "seed": seed}
