import torch

from msdm_lite.diffusion.noise import seed_of


def test_seeds_of_near_numbers_are_far_apart():
    seeds = [seed_of(a, b) for a in range(10) for b in range(10)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**63 for seed in seeds) and seed_of(3, 4) == seeds[34]
    torch.Generator().manual_seed(max(seeds))
    assert max(seeds) - min(seeds) > 2**62
