"""Classifier-free guidance against Dirac on parts of a band, by which stems play.

`python -m msdm_lite.studies guidance-vs-dirac --out FILE` sums only some stems of each shipped clip, for all eleven
choices of two stems or more. One model separates each sum into all four stems: conditioned on the mixture (weight 1),
and as a prior with Dirac guidance. A model that is conditioned on the mixture can infer from it which stems play;
with a prior, guidance must silence the absent stems. Both methods use the same clips and the same seed. Chapter:
`book/11-beyond-the-paper.ipynb`.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import STEMS
from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
from msdm_lite.evaluation.records import Cached, Tensors, compute
from msdm_lite.inference.separation import separate
from msdm_lite.models.base import StemModel
from msdm_lite.studies.runner import Run, study

# The settings of the recorded tables
METHODS: dict[str, dict[str, Any]] = {"guided": {"steps": 20}, "dirac": {"steps": 50, "churn": 10.0, "corrections": 1}}


def lineups(least: int = 2) -> list[tuple[str, ...]]:
    """All choices of at least `least` stems, in order of their number."""
    return [some for size in range(least, len(STEMS) + 1) for some in combinations(STEMS, size)]


def gains(model: StemModel, bands: Sequence[Tensor], some: Sequence[str], method: str, seed: int = 0) -> Tensors:
    """SI-SDR improvement of n bands (4, T) in which only the stems `some` play, mean over these: {"dB": (n,)}."""
    found = []
    for band in bands:
        alone = torch.zeros_like(band)
        playing = [STEMS.index(name) for name in some]
        alone[playing] = band[playing]
        got = separate(alone.sum(0), model, method, seed=seed, **METHODS[method])
        found.append(metrics.si_sdr_improvement(got, alone).nanmean())
    return {"dB": torch.stack(found)}


def measure(model: StemModel, bands: Sequence[Tensor], seed: int = 0, progress: bool = True,
            keep: Cached = compute) -> dict:
    """SI-SDR improvement in dB of both methods, and the first's lead, for each line-up and for each number of stems.

    Each is a mean with its interval over bands (4, T). For a number of stems, the value of a band is its mean over the
    line-ups of that size.
    """
    jobs = [(some, method) for some in lineups() for method in METHODS]
    found = {(some, method): keep(f"{'+'.join(some)}-{method}", partial(gains, model, bands, some, method, seed))["dB"]
             for some, method in tqdm(jobs, unit="line-up", disable=not progress)}

    def summary(of: Sequence[tuple[str, ...]]) -> dict:
        guided, dirac = (torch.stack([found[some, method] for some in of]).nanmean(0) for method in METHODS)
        return {**dict(zip(METHODS, map(metrics.interval, (guided, dirac)), strict=True)),
                "difference": metrics.interval(guided - dirac)}

    sizes = sorted({len(some) for some in lineups()})
    return {"lineups": {", ".join(some): summary([some]) for some in lineups()},
            "sizes": {str(size): summary([some for some in lineups() if len(some) == size]) for size in sizes}}


@study("guidance-vs-dirac", records=("lineup-guided",),
       measures="classifier-free guidance against Dirac, by which stems sound")
def main(run: Run, model: str = "lite-guided", n: int = 24, seed: int = 0) -> dict:
    """Compare both methods and write one JSON file. A stopped run resumes with the line-ups that it has not measured.

    Args:
        model: a shipped name or a path, of a model that can be conditioned on the mixture.
        n: number of shipped clips, in their order.
        seed: seed of all random numbers.

    Raises:
        InputError: more clips than there are, or none; or a model that cannot be conditioned on the mixture.
    """
    clips = example_clips.clips("band")
    if not 1 <= n <= len(clips):
        raise InputError(f"{n} clips: there are {len(clips)}, and one is the least")
    loaded = run.load(model)
    loaded.require_stems(STEMS)
    if not loaded.takes_mixture:
        raise InputError(f"{model} cannot be conditioned on the mixture: there is nothing to compare")
    found = measure(loaded, [example_clips.clip(entry["name"]) for entry in clips[:n]], seed, keep=run.keep)
    return {"what": "SI-SDR improvement in dB over the mixture, mean over the stems that play, where only some "
            "of a clip's stems were added up; guided: conditioned on the mixture, weight 1",
            "data": "shipped band clips, one a song", "n": n, "model": model, "settings": METHODS,
            "interval": "95 % percentile bootstrap over songs; none of fewer than eight", **found, "seed": seed}
