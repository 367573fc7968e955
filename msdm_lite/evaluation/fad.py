"""Frechet audio distance (FAD) between two sets of sounds, and what else embeddings say of them.

Each set becomes a cloud of embeddings (`msdm_lite.evaluation.musicnn.embed`), each cloud a Gaussian, and the distance
is that of the two Gaussians: `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`. Few sounds bias it upwards, by about a
constant over their number. So values of different numbers do not compare, and FAD infinity is extrapolated on a line
against 1 / n. Sources: Kilgour et al., Interspeech 2019; Chong and Forsyth, CVPR 2020 (the extrapolation). Chapter:
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
    """Embeddings of the mixtures of bands (n, S, T): (n, W, d), W windows of three seconds, or of one (VGGish)."""
    return torch.cat([EMBEDDINGS[embedding](some.sum(1)) for some in bands.split(16)])


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance of two clouds of embeddings, (n, d) and (m, d).

    Raises:
        InputError: a cloud of fewer than two points, or of other dimensions than the other.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f"two clouds of two points or more are compared, (n, d) and (m, d), not {tuple(a.shape)} and "
                         f"{tuple(b.shape)}")
    a, b = a.double(), b.double()
    functional = library("torchaudio.functional")
    return functional.frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()


def fad_infinity(a: Tensor, b: Tensor, sizes: Sequence[int], draws: int = 8, seed: int = 0) -> tuple[float,
                                                                                                     list[float]]:
    """The distance that ever more sounds in `a` would come to, and the mean distances at the sizes that say so.

    Subsets are drawn without putting back: a bootstrap's copies would make its clouds look smaller than they are.

    Args:
        a, b: clouds (n, d) and (m, d); b is used whole.
        sizes: two or more, each at most n.
        draws: subsets of each size.

    Raises:
        InputError: fewer than two sizes, or one that is larger than n.
    """
    if len(set(sizes)) < 2 or max(sizes) > len(a):
        raise InputError(f"two sizes or more are needed, at most {len(a)}, not {list(sizes)}")
    rng = np.random.default_rng(seed)
    means = [float(np.mean([frechet(a[torch.from_numpy(rng.permutation(len(a))[:size])], b) for _ in range(draws)]))
             for size in sizes]
    line = np.polyfit(1 / np.asarray(sizes, dtype=float), means, 1)
    return float(line[1]), means


def half_samples(songs: Sequence, draws: int = 20, seed: int = 0) -> list[Tensor]:
    """Which sounds are left (a mask) when half of the songs that they are of are drawn, without putting back.

    Raises:
        InputError: fewer than eight songs.
    """
    names, of = np.unique(np.asarray(songs), return_inverse=True)
    if len(names) < 8:
        raise InputError(f"an error needs at least 8 sounds, each of another song, not {len(names)}")
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(len(names))[: len(names) // 2] for _ in range(draws)]
    return [torch.from_numpy(np.isin(of, some)) for some in drawn]


def standard_error(statistic: Callable[[Tensor], Any], songs: Sequence, draws: int = 20, seed: int = 0) -> np.ndarray:
    """Standard error of a statistic of sounds, or of each of several, by `halves` of the songs that they are of.

    That of half varies about as much as the whole's would from set to set: twice the variance for half the songs, half
    of which is lost since halves of one set overlap. Where copies spoil the statistic, a bootstrap has no place.

    Args:
        statistic: of the sounds that a mask (n,) leaves.
        songs: of each sound its song, or another name for each where all are independent.

    Raises:
        InputError: fewer than eight songs.
    """
    return np.std([statistic(half) for half in half_samples(songs, draws, seed)], axis=0, ddof=1)


def frechet_error(a: Tensor, b: Tensor, draws: int = 20, seed: int = 0, songs: Sequence | None = None) -> float:
    """Standard error of the distance of clouds (n, W, d) and (m, W, d) of sounds, by `spread` of the first.

    Args:
        songs: of each sound its song, where some are of one and so not independent.

    Raises:
        InputError: fewer than eight songs, or sounds.
    """
    whole = b.flatten(0, 1)
    names = range(len(a)) if songs is None else songs
    return float(standard_error(lambda half: frechet(a[half].flatten(0, 1), whole), names, draws, seed))


def nearest_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of each point of a (n, d) to the nearest of b (m, d): (n,)."""
    return torch.cdist(a.double(), b.double()).amin(1)


def diversity(a: Tensor) -> float:
    """Mean Euclidean distance between two different points of a (n, d)."""
    return (torch.cdist(a.double(), a.double()).sum() / (len(a) * (len(a) - 1))).item()
