from itertools import product

import pytest
import torch

from msdm_lite.training import batches
from msdm_lite.training.recipe import Recipe


def test_noise_depends_on_the_item_alone():
    recipe = Recipe(sigma_free=(-1.6, 1.2), shapes=(0.4, 0.3, 0.2, 0.1))
    x = torch.zeros(4, 4, 8, 3)
    sigma, conditioning, noise = batches.training_noise(torch.arange(8, 12), x, recipe)
    one, its_known, its_noise = batches.training_noise(torch.tensor([10]), x[:1], recipe)
    assert sigma[2] == one[0] and torch.equal(noise[2], its_noise[0])
    assert conditioning.mixture[2] == its_known.mixture[0] and torch.equal(conditioning.stems[2], its_known.stems[0])
    assert batches.conditioning_kinds(torch.arange(8, 12), recipe.shapes).tolist() == [3, 1, 0, 2]
    assert conditioning.mixture.tolist() == [True, True, False, False]


def test_levels_are_log_normal_and_noise_is_white():
    """4000 draws: a mean is known to 1/63 of a deviation, a deviation to 1/89; four of those are allowed."""
    recipe = Recipe(sigma_free=(-1.6, 1.2), shapes=(0.75, 0.25, 0.0, 0.0))
    numbers = torch.arange(4000)
    sigma, conditioning, noise = batches.training_noise(numbers, torch.zeros(4000, 1, 4), recipe)
    assert conditioning.mixture.float().mean() == pytest.approx(0.25, abs=1e-3) and not conditioning.stems.any()
    free, fixed = sigma[~conditioning.mixture].log(), sigma[conditioning.mixture].log()
    assert free.mean() == pytest.approx(-1.6, abs=4 * 1.2 / 54) and free.std() == pytest.approx(1.2, rel=4 / 77)
    assert fixed.mean() == pytest.approx(0.2, abs=4 * 1.5 / 31) and fixed.std() == pytest.approx(1.5, rel=4 / 44)
    assert torch.allclose(noise.flatten(1).T.cov(), torch.eye(4), atol=4 / 63)


def test_every_subset_of_stems_is_known_at_times_and_something_always_open():
    recipe = Recipe(sigma_free=(-1.6, 1.2), shapes=(0.25, 0.25, 0.25, 0.25))
    numbers = torch.arange(2000)
    _, conditioning, _ = batches.training_noise(numbers, torch.zeros(2000, 4, 1), recipe)
    kinds = batches.conditioning_kinds(numbers, recipe.shapes)
    counts = conditioning.stems.sum(1)
    assert (counts[kinds < 2] == 0).all() and torch.equal(conditioning.mixture, kinds % 2 == 1)
    assert {tuple(row) for row in conditioning.stems[kinds == 2].int().tolist()} == set(product((0, 1), repeat=4)) - {
        (0, 0, 0, 0), (1, 1, 1, 1)}
    assert set(counts[kinds == 3].tolist()) == {1, 2}  # with three and the mixture known the fourth would be, too


def test_the_order_shares_items_out():
    recipe = Recipe(batch=2, accumulate=2)
    ranks = [iter(batches.ItemOrder(3, recipe, rank, 2)) for rank in (0, 1)]
    assert [[next(rank) for _ in range(4)] for rank in ranks] == [[24, 25, 28, 29], [26, 27, 30, 31]]


def test_a_share_of_the_items_has_its_beat_phase():
    count = torch.ones(3000, 4, 2)
    for share in (0.0, 2 / 3, 1.0):
        heard = batches.beats_of(count, torch.arange(3000), Recipe(beat_share=share))[:, 0, 0]
        assert abs(heard.mean().item() - share) < 0.01
