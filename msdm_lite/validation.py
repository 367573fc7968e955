"""What a model is worth while it trains: errors by noise level and a quick separation, on fixed crops.

Chapter: `book/05-training.ipynb`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from msdm_lite import metrics, sampling, separation
from msdm_lite.audio import MIX, STEMS
from msdm_lite.crops import Crops
from msdm_lite.face import StemModel
from msdm_lite.known import Known
from msdm_lite.recipe import songs_of


def pictures(model: StemModel, crops: Tensor) -> Tensor:
    """Pictures (B, S, bins, frames) of the model's stems of crops (B, 4, T) that are two hops longer than they.

    Of a model of mixes, of what all four sum to. The frames that wrap around are cut off.
    """
    if model.stems == (MIX,):
        heard = crops.sum(1, keepdim=True)
    else:
        heard = crops[:, [STEMS.index(stem) for stem in model.stems]]
    return model.transform.forward(heard)[..., : model.config.frames]


def crop_samples(model: StemModel) -> int:
    """Length of a training crop in samples: a segment, and two hops that are cut off."""
    return (model.config.frames + 2) * model.config.bins


def cut(model: StemModel, crops: Crops) -> Tensor:
    """All crops as pictures: (N, S, bins, frames)."""
    return torch.cat([pictures(model, crops[i]["stems"][None]) for i in range(len(crops))])


def quick_separation(model: StemModel, x: Tensor, generator: torch.Generator) -> Tensor:
    """Mean SI-SDR improvement (dB) of separating the sum of clean x (B, S, bins, L): one number that is soon there.

    One evaluation at sigma 10 where the model can be told the mixture; eight with Wiener shares where it cannot
    (so few levels of Dirac or of the Gaussian blow up).
    """
    if model.takes_mixture or model.learned(mixture=True):
        method, steps = "guided" if model.takes_mixture else "mixture-known", 1
    else:
        method, steps = "wiener", 8
    states = separation.separate_pictures(x.sum(1), model.denoise, x.shape[1], method, generator=generator,
                                          variance=model.variance, steps=steps)
    guess = sampling.last(states).x
    return metrics.si_sdr_improvement(guess.flatten(2), x.flatten(2)).nanmean()  # orthonormal: same in pictures


class Validation:
    """Fixed crops of validation songs: loss by noise level, and the SI-SDR improvement of a quick separation."""

    LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __init__(self, model: StemModel, data: str, balance: str = "rms", count: int = 24):
        songs = [song for song in songs_of(data, "val", balance=balance) if getattr(song, "ready", True)]
        self.x = cut(model, Crops(songs, crop_samples(model), count, seed=2))

    @torch.no_grad()
    def __call__(self, model: StemModel) -> dict[str, float]:
        return by_level(model, self.x, model.loss, self.LEVELS, sketches=model.takes_sketch)


def by_level(model: StemModel, x: Tensor, error: Callable[..., Tensor],
             levels: Sequence[float], sketches: bool = False) -> dict[str, float]:
    """Means over clean x (N, S, bins, L) of error(x, sigma, known, noise), by shape and level; SI-SDR improvement.

    And with `sketches` of error(..., sketched), nothing else known.
    """
    out: dict[str, list] = {}
    generator = torch.Generator().manual_seed(0)
    for some in x.to(model.device).split(8 if model.takes_known else 2):
        shapes = {}
        if model.learned():
            shapes["free"] = Known.nothing(some)
        if model.takes_mixture or model.learned(mixture=True):
            shapes["known"] = Known.the_mixture(some)
        if model.learned(stems=True):
            shapes["stems"] = Known.these(some, range(some.shape[1] // 2))
        if sketches:
            shapes["sketch"] = Known.nothing(some)
        for name, known in shapes.items():
            told = {"sketched": torch.ones_like(known.mixture)} if name == "sketch" else {}
            for level in levels:
                noise = torch.randn(some.shape, generator=generator).to(some)
                value = error(some, torch.full((len(some),), level).to(some), known, noise, **told)
                out.setdefault(f"{name}_{level}", []).append(value.mean().item())
        # One stem alone separates nothing, nor does a sketch; eight evaluations take long
        soon = model.takes_known or len(out.get("si_sdr_improvement", [])) < 4
        if len(model.stems) > 1 and model.makes_sound and soon:
            out.setdefault("si_sdr_improvement", []).append(quick_separation(model, some, generator).item())
    return {name: round(sum(values) / len(values), 4) for name, values in out.items()}
