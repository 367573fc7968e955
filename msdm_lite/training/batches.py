"""Batches of a training run: the order of items, their spectrograms, noise, conditioning and beat phases.

All of them depend on the seed and the number of an item alone, not on how a run is divided among processes. Chapter:
`book/05-training.ipynb`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from msdm_lite.audio.front_end import segment, segment_samples
from msdm_lite.audio.io import MIX, STEMS
from msdm_lite.data.dataset import Crops
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.noise import seed_of
from msdm_lite.models.base import StemModel
from msdm_lite.training.recipe import Recipe


class ItemOrder(Sampler):
    """The item numbers of one process, from a step on: the processes take `batch` items in turn."""

    def __init__(self, step: int, recipe: Recipe, rank: int = 0, world: int = 1):
        self.step, self.recipe, self.rank, self.world = step, recipe, rank, world

    def __iter__(self) -> Iterator[int]:
        turn = self.step * self.recipe.accumulate
        while True:
            first = (turn * self.world + self.rank) * self.recipe.batch
            yield from range(first, first + self.recipe.batch)
            turn += 1


def training_noise(items: Tensor, x: Tensor, recipe: Recipe) -> tuple[Tensor, Conditioning, Tensor]:
    """Noise levels (B,), conditioning, and white noise like x, for items (B,) with clean x (B, S, ...).

    The condition `sketched` (B,), where there are any, says which items are conditioned on their sketch. All depend on
    the seed and the item alone; white noise also depends on the type of the device of x.
    """
    assert recipe.shapes is not None and recipe.sigma_free is not None, "Recipe.for_model() settles them"
    S = x.shape[1]
    kinds = conditioning_kinds(items, recipe.shapes)
    mixture = (kinds == 1) | (kinds == 3)
    stems = torch.zeros(len(items), S, dtype=torch.bool)
    noise = torch.empty_like(x)
    z = torch.empty(len(items))
    generators = {kind: torch.Generator(kind) for kind in {"cpu", x.device.type}}
    for row, item in enumerate(items.tolist()):
        seed = seed_of(recipe.seed, 1, item)
        for generator in generators.values():
            generator.manual_seed(seed)
        z[row] = torch.randn((), generator=generators["cpu"])
        if kinds[row] >= 2:
            # At least one stem is given and one is not; given the mixture, at least two are not
            most = S - 1 - int(mixture[row])
            count = int(torch.randint(1, most + 1, (), generator=generators["cpu"])) if most > 0 else 0
            stems[row, torch.randperm(S, generator=generators["cpu"])[:count]] = True
        noise[row] = torch.randn(x.shape[1:], generator=generators[x.device.type], device=x.device, dtype=x.dtype)
    mean, std = (torch.where(mixture, known, free)
                 for free, known in zip(recipe.sigma_free, recipe.sigma_known, strict=True))
    # An irrational number other than that of the conditioning: each kind has the same share of sketches
    conditioning = Conditioning(mixture.to(x.device), stems.to(x.device))
    if recipe.sketched:
        sketched = (items.double() * 2**0.5 % 1 < recipe.sketched) & ~mixture
        conditioning = conditioning.with_conditions(sketched=sketched.to(x.device))
    return (mean + std * z).exp().to(x), conditioning, noise


def beats_of(beat_phase: Tensor, items: Tensor, recipe: Recipe) -> Tensor:
    """Beat phases (B, 4, L) of items (B,), set to zero for items without beat conditioning."""
    hears = items.double() * 3**0.5 % 1 < (recipe.beat_share or 0)  # a third irrational number
    return beat_phase * hears[:, None, None]


def conditioning_kinds(items: Tensor, shares: tuple[float, ...]) -> Tensor:
    """The conditioning of each item (B,): 0 for none, 1 for the mixture, 2 for some stems, 3 for both.

    Also a short run of items has nearly these shares, because multiples of the golden ratio fill [0, 1) evenly.
    """
    place = items.double() * ((5**0.5 - 1) / 2) % 1
    return torch.bucketize(place, torch.tensor(shares[:3], dtype=torch.float64).cumsum(0), right=True)


def encode_crops(model: StemModel, crops: Tensor, stems: Sequence[str] = STEMS) -> Tensor:
    """The model's stems of crops (B, stems, T), encoded by its front end: (B, S, rows, frames).

    A model of the mixture gets the sum of all. T is `crop_samples(model)`; the edges of the encoded crop are cut off.
    """
    return segment(model.transform, own_stems(model, crops, stems), model.config.frames)


def own_stems(model: StemModel, crops: Tensor, stems: Sequence[str] = STEMS) -> Tensor:
    """The model's stems (B, S, T) of crops (B, stems, T) with these stems; for a model of the mixture their sum."""
    if model.stems == (MIX,):
        return crops.sum(1, keepdim=True)
    return crops[:, [stems.index(stem) for stem in model.stems]]


def crop_samples(model: StemModel) -> int:
    """Length of a training crop in samples: a segment, and two frames that are cut off."""
    return segment_samples(model.transform, model.config.frames)


def encode_all_crops(model: StemModel, crops: Crops, gain: float = 1.0) -> Tensor:
    """All crops with a gain, encoded as by `encode_crops`: (N, S, bins, frames)."""
    return torch.cat([encode_crops(model, gain * crops[i]["stems"][None], crops.stems) for i in range(len(crops))])
