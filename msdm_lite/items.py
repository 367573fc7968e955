"""What the number of a training item decides: who takes it, and its noise; so sharing a run out changes nothing.

Chapter: `book/05-training.ipynb`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from msdm_lite.known import Known
from msdm_lite.recipe import Recipe
from msdm_lite.seeds import seed_of


class Order(Sampler):
    """The items of one process, from a step on: each step's are shared out in turns of `batch`."""

    def __init__(self, step: int, recipe: Recipe, rank: int = 0, world: int = 1):
        self.step, self.recipe, self.rank, self.world = step, recipe, rank, world

    def __iter__(self) -> Iterator[int]:
        turn = self.step * self.recipe.accumulate
        while True:
            first = (turn * self.world + self.rank) * self.recipe.batch
            yield from range(first, first + self.recipe.batch)
            turn += 1


def noise_of(items: Tensor, x: Tensor, recipe: Recipe) -> tuple[Tensor, Known, Tensor, Tensor]:
    """For items (B,) of clean x (B, S, ...): levels (B,), what is known, white noise like x, which are sketched (B,).

    By seed and item alone.
    """
    assert recipe.shapes is not None and recipe.sigma_free is not None, "Recipe.for_model() settles them"
    S = x.shape[1]
    kinds = shapes_of(items, recipe.shapes)
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
            # At least one is known and one is not; with the mixture known two are not, or nothing would be left open
            most = S - 1 - int(mixture[row])
            count = int(torch.randint(1, most + 1, (), generator=generators["cpu"])) if most > 0 else 0
            stems[row, torch.randperm(S, generator=generators["cpu"])[:count]] = True
        noise[row] = torch.randn(x.shape[1:], generator=generators[x.device.type], device=x.device, dtype=x.dtype)
    mean, deviation = (torch.where(mixture, known, free)
                       for free, known in zip(recipe.sigma_free, recipe.sigma_known, strict=True))
    # Another irrational number than for the shapes: every shape has its share of sketches
    sketched = (items.double() * 2**0.5 % 1 < (recipe.sketched or 0)) & ~mixture
    return ((mean + deviation * z).exp().to(x), Known(mixture.to(x.device), stems.to(x.device)), noise,
            sketched.to(x.device))


def clicks_of(click: Tensor, items: Tensor, recipe: Recipe) -> Tensor:
    """Clicks (B, 4, L) of items (B,): silent for those that do not hear theirs."""
    hears = items.double() * 3**0.5 % 1 < (recipe.clicked or 0)  # a third irrational number
    return click * hears[:, None, None]


def shapes_of(items: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Which shape of noise each item (B,) has: 0 nothing known, 1 the mixture, 2 some stems, 3 both.

    Shares are met evenly, also within every short run of items: multiples of the golden ratio fill [0, 1) so.
    """
    place = items.double() * ((5**0.5 - 1) / 2) % 1
    return torch.bucketize(place, torch.tensor(shares[:3], dtype=torch.float64).cumsum(0), right=True)
