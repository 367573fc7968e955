"""Validation during training: losses by noise level and a quick separation, on fixed crops.

Chapter: `book/05-training.ipynb`.
"""

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from msdm_lite.data.dataset import Crops, crops_enough
from msdm_lite.data.tracks import Track
from msdm_lite.diffusion import sampling
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.evaluation import metrics
from msdm_lite.inference import separation
from msdm_lite.models.base import StemModel
from msdm_lite.training.batches import crop_samples, encode_all_crops


def quick_separation(model: StemModel, x: Tensor, generator: torch.Generator) -> Tensor:
    """Mean SI-SDR improvement (dB) of separating the sum of clean x (B, S, bins, L), by a fast method.

    One network evaluation at sigma 10 if the model can be conditioned on the mixture; else eight with `wiener`, because
    `dirac` and `gaussian` diverge with so few noise levels.
    """
    if model.takes_mixture or model.trained_for(mixture=True):
        method, steps = "guided" if model.takes_mixture else "mixture-constrained", 1
    else:
        method, steps = "wiener", 8
    states = separation.separate_encoded(x.sum(1), model.denoise, x.shape[1], method, generator=generator,
                                         variance=model.variance, steps=steps)
    guess = sampling.final_state(states).x
    return metrics.si_sdr_improvement(guess.flatten(2), x.flatten(2)).nanmean()  # the MDCT is orthonormal


class Validation:
    """Fixed crops of validation songs: loss by noise level, and the SI-SDR improvement of a quick separation.

    `count` is the largest number of crops; short songs get fewer.
    """

    LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __init__(self, model: StemModel, songs: Sequence[Track], count: int = 24, gain: float = 1.0):
        ready = [song for song in songs if getattr(song, "ready", True)]
        size = crop_samples(model)
        self.x = encode_all_crops(model, Crops(ready, size, crops_enough(ready, size, count, 1), seed=2), gain)

    @torch.no_grad()
    def __call__(self, model: StemModel) -> dict[str, float]:
        return by_noise_level(model, self.x, model.loss, self.LEVELS, sketches=model.takes_sketch)


def by_noise_level(model: StemModel, x: Tensor, error: Callable[..., Tensor],
                   levels: Sequence[float], sketches: bool = False) -> dict[str, float]:
    """Means over clean x (N, S, bins, L) of error(x, sigma, conditioning, noise) by conditioning and noise level.

    Also the mean SI-SDR improvement of `quick_separation`, in dB; and, with `sketches`, the error given the sketch of
    every item and nothing else.
    """
    out: dict[str, list] = {}
    generator = torch.Generator().manual_seed(0)
    for some in x.to(model.device).split(8 if model.takes_conditioning else 2):
        shapes = {}
        if model.trained_for():
            shapes["free"] = Conditioning.none(some)
        if model.takes_mixture or model.trained_for(mixture=True):
            shapes["known"] = Conditioning.on_mixture(some)
        if model.trained_for(stems=True):
            shapes["stems"] = Conditioning.on_stems(some, range(some.shape[1] // 2))
        if sketches:
            shapes["sketch"] = Conditioning.none(some)
        for name, conditioning in shapes.items():
            if name == "sketch":
                conditioning = conditioning.with_conditions(sketched=torch.ones_like(conditioning.mixture))
            for level in levels:
                noise = torch.randn(some.shape, generator=generator).to(some)
                value = error(some, torch.full((len(some),), level).to(some), conditioning, noise)
                out.setdefault(f"{name}_{level}", []).append(value.mean().item())
        # Not for one stem or for sketches; only a few batches where one takes eight network evaluations
        soon = model.takes_conditioning or len(out.get("si_sdr_improvement", [])) < 4
        if len(model.stems) > 1 and model.makes_sound and soon:
            out.setdefault("si_sdr_improvement", []).append(quick_separation(model, some, generator).item())
    return {name: round(sum(values) / len(values), 4) for name, values in out.items()}


def uncompiled() -> contextlib.AbstractContextManager:
    """A context without compilation, which would take longer than a few validation batches of another size."""
    stance = getattr(torch.compiler, "set_stance", None)  # since PyTorch 2.6
    return stance("force_eager") if stance else contextlib.nullcontext()
