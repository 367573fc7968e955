"""Frechet audio distance (FAD) between two sets of sounds, its error, and other measures of embeddings.

A Gaussian is fitted to the embeddings of each set (`msdm_lite.evaluation.musicnn.embed`), and the distance is that of
the two Gaussians: `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`. A small number n of sounds biases it upwards, by about
a constant over n. So values at different n cannot be compared, and FAD infinity is extrapolated on a line against
1 / n. Sources: Kilgour et al., Interspeech 2019; Chong and Forsyth, CVPR 2020 (the extrapolation). Chapter:
`book/10-measuring.ipynb`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.evaluation import musicnn, vggish
from msdm_lite.utils.imports import library

EMBEDDINGS = {"musicnn": musicnn.embed, "vggish": vggish.embed}


def embed_mixtures(bands: Tensor, embedding: str = "musicnn") -> Tensor:
    """Embeddings of the mixtures of bands (n, S, T): (n, W, d), W windows of three seconds, or of one (VGGish).

    Raises:
        InputError: there is no such embedding; a band is not finite, or shorter than a window.
    """
    if embedding not in EMBEDDINGS:
        raise InputError(f"there is no embedding {embedding!r}; there are {', '.join(EMBEDDINGS)}")
    if broken := (~bands.flatten(1).isfinite().all(1)).nonzero().flatten().tolist():
        raise InputError(f"{len(broken)} of {len(bands)} bands have samples that are NaN or infinite; the first is "
                         f"number {broken[0]}")
    return torch.cat([EMBEDDINGS[embedding](some.sum(1)) for some in bands.split(16)])


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance of the Gaussians fitted to two sets of embeddings, (n, d) and (m, d).

    Raises:
        InputError: a set has fewer than two points, the dimensions differ, or a number is NaN, infinite or so large
            that the distance is.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f"two clouds of two points or more are compared, (n, d) and (m, d), not {tuple(a.shape)} and "
                         f"{tuple(b.shape)}")
    a, b = a.double(), b.double()
    for name, points in (("first", a), ("second", b)):  # LAPACK ends the interpreter where a number is not finite
        if broken := int((~points.isfinite().all(1)).sum()):
            raise InputError(f"{broken} of the {len(points)} points of the {name} set are NaN or infinite")
        if not points.T.cov().isfinite().all():
            raise InputError(f"the points of the {name} set are too large: their covariance is infinite (the largest "
                             f"number is {points.abs().max().item():.3g})")
    functional = library("torchaudio.functional")
    return functional.frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()


def fad_infinity(a: Tensor, b: Tensor, sizes: Sequence[int], draws: int = 8, seed: int = 0) -> tuple[float,
                                                                                                     list[float]]:
    """FAD infinity, the extrapolated distance for infinitely many sounds in `a`; and the mean distance at each size.

    Subsets are drawn without replacement: with the repeated points of a bootstrap the covariance would be too small.

    Args:
        a, b: embeddings (n, d) and (m, d); all of b is used.
        sizes: sizes of the subsets of a: two or more, each at most n.
        draws: number of subsets of each size.

    Raises:
        InputError: there are fewer than two sizes, or one is larger than n.
    """
    if len(set(sizes)) < 2 or max(sizes) > len(a):
        raise InputError(f"two sizes or more are needed, at most {len(a)}, not {list(sizes)}")
    rng = np.random.default_rng(seed)
    means = [float(np.mean([frechet(a[torch.from_numpy(rng.permutation(len(a))[:size])], b) for _ in range(draws)]))
             for size in sizes]
    line = np.polyfit(1 / np.asarray(sizes, dtype=float), means, 1)
    return float(line[1]), means


def half_samples(songs: Sequence, draws: int = 20, seed: int = 0) -> list[Tensor]:
    """Boolean masks (n,), one per draw: the sounds of a random half of the songs, drawn without replacement.

    `songs` names the song of each of the n sounds.

    Raises:
        InputError: there are fewer than eight songs.
    """
    names, of = np.unique(np.asarray(songs), return_inverse=True)
    if len(names) < 8:
        raise InputError(f"an error needs at least 8 sounds, each of another song, not {len(names)}")
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(len(names))[: len(names) // 2] for _ in range(draws)]
    return [torch.from_numpy(np.isin(of, some)) for some in drawn]


def standard_error(statistic: Callable[[Tensor], Any], songs: Sequence, draws: int = 20, seed: int = 0) -> np.ndarray:
    """Standard error of a statistic of sounds, or of each of several, from `half_samples` of their songs.

    The statistic of a random half varies about as much as that of the whole from set to set: half the songs double the
    variance, and the overlap of the halves of one set halves it. A bootstrap cannot be used for statistics that
    repeated points bias.

    Args:
        statistic: takes a mask (n,) of the sounds to use.
        songs: the song of each sound, or a different name for each sound if all are independent.

    Raises:
        InputError: there are fewer than eight songs.
    """
    return np.std([statistic(half) for half in half_samples(songs, draws, seed)], axis=0, ddof=1)


def frechet_error(a: Tensor, b: Tensor, draws: int = 20, seed: int = 0, songs: Sequence | None = None) -> float:
    """Standard error of the Frechet distance of embeddings (n, W, d) and (m, W, d), by `standard_error` over the first.

    Args:
        songs: the song of each of the n sounds; if None all sounds are taken as independent.

    Raises:
        InputError: there are fewer than eight songs, or sounds.
    """
    whole = b.flatten(0, 1)
    names = range(len(a)) if songs is None else songs
    return float(standard_error(lambda half: frechet(a[half].flatten(0, 1), whole), names, draws, seed))


def nearest_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of each point of a (n, d) to the nearest of b (m, d): (n,); NaN where a point is."""
    return torch.cdist(a.double(), b.double()).amin(1)


def diversity(a: Tensor) -> float:
    """Mean Euclidean distance between two different points of a (n, d).

    Raises:
        InputError: there is one point, or none.
    """
    if len(a) < 2:
        raise InputError(f"two points or more have a distance, not {len(a)}")
    return (torch.cdist(a.double(), a.double()).sum() / (len(a) * (len(a) - 1))).item()
