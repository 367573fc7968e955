"""Accompaniments against real bands: sub-FAD, density, and whether the generated stems agree with the given ones.

The embedding is that of the mixture of given and generated stems (arXiv 2302.02257, sub-FAD, after Donahue et al.,
arXiv 2301.12662). Density is how often the generated stems are audible, and their RMS level. The study `distance`
(`msdm_lite.studies.distance`) calls this module and writes the record. Chapter: `book/08-imputation.ipynb`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """All choices of stems to generate, at least one and not all: fourteen for four stems."""
    return [some for size in range(1, len(stems)) for some in combinations(stems, size)]


def of_songs(values: np.ndarray, songs: np.ndarray) -> dict:
    """Mean and interval over songs (`metrics.interval`) of values (n,) of crops whose songs are `songs` (n,).

    Crops of one song are not independent, so each song has one value, the mean of its crops. NaN is skipped.
    """
    parts = [values[songs == song] for song in sorted(set(songs))]
    means = [part[~np.isnan(part)].mean() for part in parts if not np.isnan(part).all()]
    return metrics.interval(np.array(means))


@dataclass(frozen=True)
class Sampling:
    """How bands are generated and embedded.

    Attributes:
        seed: of band i it is `seed + i`.
        sketcher: a model that generates the sketches which the other model then decodes.
        steps: number of noise levels; the default of the method if None.
        embedding: see `fad.embed_mixtures`.
    """

    seed: int = 0
    sketcher: StemModel | None = None
    steps: int | None = None
    embedding: str = "musicnn"


DEFAULT = Sampling()


def accompaniment_measures(model: StemModel, bands: Tensor, some: Sequence[str], how: Sampling) -> Tensors:
    """Measures of bands (n, 4, T) whose stems `some` a model generates, given the others.

    What is returned:

    - `fad`, `mismatched`: embeddings (n, W, d) of the mixtures with the generated stems, and with real stems of another
      band;
    - `onsets`, `chroma`: agreement of the stems of a band, (n,); `onsets_shuffled`, `chroma_shuffled`: the same with
      the generated stems of another band;
    - `level_db`: RMS level of the generated stems over the real ones in dB, (n, new); nan where the latter are silent;
    - `heard`, `played`: whether the generated stems, and the real ones, are audible, (n, new).
    """
    new, order = [STEMS.index(name) for name in some], torch.arange(len(bands)).roll(1)
    made, shuffled, mismatched = bands.clone(), bands.clone(), bands.clone()
    for i, band in enumerate(bands):
        given = {name: band[n] for n, name in enumerate(STEMS) if name not in some}
        made[i] = accompaniment.accompany(given, model, seed=how.seed + i, steps=how.steps, sketcher=how.sketcher)
    shuffled[:, new] = made[order][:, new]
    mismatched[:, new] = bands[order][:, new]
    own, other = (band_quality.agreements(one, STEMS) for one in (made, shuffled))
    playing = coherence.audible(bands)[:, new]
    level = 10 * (made[:, new].square().mean(-1).clamp(min=1e-10)
                  / bands[:, new].square().mean(-1).clamp(min=1e-10)).log10()
    return {"fad": embed_mixtures(made, how.embedding), "mismatched": embed_mixtures(mismatched, how.embedding),
            **{name: torch.from_numpy(values) for name, values in own.items()},
            **{f"{name}_shuffled": torch.from_numpy(values) for name, values in other.items()},
            "level_db": torch.where(playing, level, torch.nan), "heard": coherence.audible(made)[:, new],
            "played": playing}


def against_mismatched_stems(made: Tensor, mismatched: Tensor, truth: Tensor, songs: Sequence[str],
                             seed: int = 0) -> dict:
    """Frechet distances of embeddings `made` and `mismatched` (n, W, d) to those of real bands (m, W, d).

    What is returned: `fad` and `mismatched`, the two distances; `behind`, the first minus the second; `errors`,
    standard errors of the three over songs, None for fewer than eight songs. All are None if there is only one real
    embedding.
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
                wanted: Sequence[tuple[str, ...]], how: Sampling = DEFAULT, progress: bool = True,
                keep: Cached = compute) -> dict:
    """Sub-FAD, density and agreement of bands (n, 4, T), for each choice of stems to generate and for each style.

    Sub-FAD is returned with that of mismatched stems, real stems of another band: if these are no worse, the model is
    context-blind. Values by style are over all choices of stems. The fewer bands a style has, the larger is the bias of
    its distance: compare it with the mismatched stems of the same style, not with another style.

    Args:
        songs, styles: of each band.
        wanted: the choices of stems, as from `subsets`.
    """
    truth, song_of, audible_in = embed_mixtures(bands, how.embedding), np.array(songs), ("heard", "played", "level_db")
    true = keep("real", lambda: {name: torch.from_numpy(values)
                                 for name, values in band_quality.agreements(bands, STEMS).items()})
    parts = {some: keep("+".join(some), partial(accompaniment_measures, model, bands, some, how))
             for some in tqdm(wanted, desc="accompanying", unit="subset", disable=not progress)}

    def summary(of: list[Tensors], here: np.ndarray) -> dict:
        """Summary of the bands in the mask `here` (n,), over the measures of one or more choices of stems."""
        these = torch.from_numpy(here)
        made, mismatched = (torch.stack([part[kind][these] for part in of], 1) for kind in ("fad", "mismatched"))
        densities = {name: torch.cat([part[name][these] for part in of], 1).double().nanmean(1).numpy()
                     for name in audible_in}
        agreements: dict[str, dict] = {"made": {}, "real": {}, "difference": {}}
        for name in true:
            own, shuffled = (torch.stack([part[key][these] for part in of], 1) for key in (name, f"{name}_shuffled"))
            for key, values in (("made", own.nanmean(1)), ("real", true[name][these]),
                                ("difference", (own - shuffled).nanmean(1))):
                agreements[key][name] = of_songs(values.numpy(), song_of[here])
        return {**against_mismatched_stems(made, mismatched, truth[these], list(song_of[here]), how.seed),
                **{name: of_songs(values, song_of[here]) for name, values in densities.items()},
                **agreements.pop("difference"), **agreements}

    return {"subsets": {", ".join(some): summary([part], np.full(len(bands), True)) for some, part in parts.items()},
            "by_style": {style: {"n": styles.count(style)} | summary(list(parts.values()), np.array(styles) == style)
                         for style in sorted(set(styles))}}
