"""Mixes in which some players were made anew, held to the real ones: sub-FAD, density, and whether the new follow.

The embedding hears the given and the new players together (arXiv 2302.02257, sub-FAD, after Donahue et al., arXiv
2301.12662). `msdm_lite.studies.distance` measures and records it. Chapter: `book/08-imputation.ipynb`.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import STEMS
from msdm_lite.evaluation import band_quality, coherence, fad, metrics
from msdm_lite.evaluation.fad import embed_mixtures
from msdm_lite.evaluation.records import Cached, Tensors, compute
from msdm_lite.inference import accompaniment
from msdm_lite.models.base import StemModel


def subsets(stems: Sequence[str] = STEMS) -> list[tuple[str, ...]]:
    """All choices of players to add, some but not all: fourteen of four stems."""
    return [some for size in range(1, len(stems)) for some in combinations(stems, size)]


def of_songs(values: np.ndarray, songs: np.ndarray) -> dict:
    """Mean and interval over songs of values of crops (n,), of which some are of one song and not independent."""
    parts = [values[songs == song] for song in sorted(set(songs))]
    means = [part[~np.isnan(part)].mean() for part in parts if not np.isnan(part).all()]
    return metrics.interval(np.array(means))


def accompaniment_measures(model: StemModel, bands: Tensor, some: Sequence[str], seed: int = 0,
                sketcher: StemModel | None = None, steps: int | None = None, embedding: str = "musicnn") -> Tensors:
    """What is measured of bands (n, 4, T) whose players `some` a model makes anew.

    What is returned:

    - `fad`, `mismatched`: clouds (n, W, d) of the mixtures, with the made players and with real ones of another song;
    - `onsets`, `chroma`: how far the stems of a band agree, (n,); `onsets_shuffled`, `chroma_shuffled`: with the made
      players of another song;
    - `level_db`: of the made players over the real ones, (n, new), nan where these are silent;
    - `heard`, `played`: do the made, did the real players sound? (n, new).
    """
    new, order = [STEMS.index(name) for name in some], torch.arange(len(bands)).roll(1)
    made, shuffled, mismatched = bands.clone(), bands.clone(), bands.clone()
    for i, band in enumerate(bands):
        given = {name: band[n] for n, name in enumerate(STEMS) if name not in some}
        made[i] = accompaniment.accompany(given, model, seed + i, steps=steps, sketcher=sketcher)
    shuffled[:, new] = made[order][:, new]
    mismatched[:, new] = bands[order][:, new]
    own, other = (band_quality.agreements(one, STEMS) for one in (made, shuffled))
    playing = coherence.audible(bands)[:, new]
    level = 10 * (made[:, new].square().mean(-1).clamp(min=1e-10)
                  / bands[:, new].square().mean(-1).clamp(min=1e-10)).log10()
    return {"fad": embed_mixtures(made, embedding), "mismatched": embed_mixtures(mismatched, embedding),
            **{name: torch.from_numpy(values) for name, values in own.items()},
            **{f"{name}_shuffled": torch.from_numpy(values) for name, values in other.items()},
            "level_db": torch.where(playing, level, torch.nan), "heard": coherence.audible(made)[:, new],
            "played": playing}


def against_mismatched_stems(made: Tensor, mismatched: Tensor, truth: Tensor, songs: Sequence[str],
                             seed: int = 0) -> dict:
    """Distances of two clouds (n, W, d) from that of the truth (m, W, d), and by how much the first is farther.

    With their standard errors over songs, of which there must be eight; and no distance from a single point.
    """
    near = truth.flatten(0, 1)
    if len(near) < 2:
        return {"fad": None, "mismatched": None, "behind": None, "errors": None}

    def distances(some: Tensor) -> list[float]:
        far = [fad.frechet(each[some].flatten(0, -2), near) for each in (made, mismatched)]
        return [*far, far[0] - far[1]]

    names, whole = ("fad", "mismatched", "behind"), torch.ones(len(made), dtype=torch.bool)
    errors = fad.standard_error(distances, songs, seed=seed).tolist() if len(set(songs)) >= 8 else None
    return dict(zip(names, distances(whole), strict=True)) | {
        "errors": dict(zip(names, errors, strict=True)) if errors else None}


def all_subsets(model: StemModel, bands: Tensor, songs: Sequence[str], styles: Sequence[str],
            wanted: Sequence[tuple[str, ...]], seed: int = 0, sketcher: StemModel | None = None,
            steps: int | None = None, progress: bool = True, embedding: str = "musicnn",
            keep: Cached = compute) -> dict:
    """For each choice of players to add to bands (n, 4, T): sub-FAD, density, and whether the new players follow.

    Each stands beside the same of real players from another song: where they are no worse, the model is not listening.
    And by style, over all choices; the distance of a style has the more bias, the fewer its bands: hold it to that of
    the mismatched stems beside it, and to no other style's.
    """
    truth, song_of, heard_in = embed_mixtures(bands, embedding), np.array(songs), ("heard", "played", "level_db")
    true = keep("real", lambda: {name: torch.from_numpy(values)
                                 for name, values in band_quality.agreements(bands, STEMS).items()})
    parts = {some: keep("+".join(some), partial(accompaniment_measures, model, bands, some, seed, sketcher, steps,
                                                embedding))
             for some in tqdm(wanted, desc="accompanying", unit="subset", disable=not progress)}

    def summary(of: list[Tensors], here: np.ndarray) -> dict:
        """Of bands `here`, over some choices of players."""
        these = torch.from_numpy(here)
        made, mismatched = (torch.stack([part[kind][these] for part in of], 1) for kind in ("fad", "mismatched"))
        densities = {name: torch.cat([part[name][these] for part in of], 1).double().nanmean(1).numpy()
                     for name in heard_in}
        agreements: dict[str, dict] = {"made": {}, "real": {}, "difference": {}}
        for name in true:
            own, shuffled = (torch.stack([part[key][these] for part in of], 1) for key in (name, f"{name}_shuffled"))
            for key, values in (("made", own.nanmean(1)), ("real", true[name][these]),
                                ("difference", (own - shuffled).nanmean(1))):
                agreements[key][name] = of_songs(values.numpy(), song_of[here])
        return {**against_mismatched_stems(made, mismatched, truth[these], list(song_of[here]), seed),
                **{name: of_songs(values, song_of[here]) for name, values in densities.items()},
                **agreements.pop("difference"), **agreements}

    return {"subsets": {", ".join(some): summary([part], np.full(len(bands), True)) for some, part in parts.items()},
            "by_style": {style: {"n": styles.count(style)} | summary(list(parts.values()), np.array(styles) == style)
                         for style in sorted(set(styles))}}
