import pytest
import torch

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.noise import add_noise, draw_sigma, project, seed_of, white


def test_projection_is_orthogonal_and_keeps_what_is_known():
    x = torch.randn(4, 4, 5, dtype=torch.float64)
    conditioning = Conditioning(torch.tensor([False, True, True, False]),
                  torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool))
    once = project(x, conditioning)
    assert torch.allclose(project(once, conditioning), once)  # a projection
    other = torch.randn_like(x)
    assert torch.allclose((once * other).sum(), (x * project(other, conditioning)).sum())  # a symmetric one
    assert torch.equal(once[0], x[0])
    assert once[1].sum(0).abs().max() < 1e-12  # the mixture carries no noise
    assert once[2, 0].abs().max() == 0 and once[2].sum(0).abs().max() < 1e-12
    assert once[3, 1:3].abs().max() == 0 and torch.equal(once[3, 0], x[3, 0])


def test_arguments_are_left_alone():
    x = torch.randn(2, 3, 4)
    before = x.clone()
    project(x, Conditioning.on_mixture(x))
    assert torch.equal(x, before)


def test_a_single_unknown_stem_is_no_longer_unknown():
    """All but one stem and the mixture given: nothing is unknown, and there is no noise."""
    x = torch.randn(1, 3, 4)
    conditioning = Conditioning(torch.tensor([True]), torch.tensor([[True, True, False]]))
    assert project(x, conditioning).abs().max() == 0


def test_is_anything_known():
    x = torch.zeros(2, 3, 4)
    assert not Conditioning.none(x).any_known()
    assert Conditioning.on_mixture(x).any_known() and Conditioning.on_stems(x, [2]).any_known()
    assert Conditioning(torch.tensor([False, True]), torch.zeros(2, 3, dtype=torch.bool)).any_known()  # of one item


def test_noise_is_white_and_the_seed_s():
    like = torch.zeros(2, 3, 5000, dtype=torch.float64)
    one, again = (white(like, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, again) and one.dtype == like.dtype
    assert not torch.equal(one, white(like, torch.Generator().manual_seed(2)))
    # a covariance from 10 000 values is known to 1/100; five of those are allowed
    assert torch.allclose(one.transpose(0, 1).flatten(1).cov(), torch.eye(3, dtype=torch.float64), atol=0.05)


def test_each_item_gets_the_noise_of_its_own_generator():
    """Alone or in a batch; and items that share a generator share its noise, drawn once."""
    def seeded(seed):
        return torch.Generator().manual_seed(seed)

    alone = [white(torch.empty(1, 4, 30), seeded(seed)) for seed in (1, 2)]
    one, other = seeded(1), seeded(2)
    found = white(torch.empty(3, 4, 30), [one, other, one])
    assert torch.equal(found, torch.cat([alone[0], alone[1], alone[0]]))
    again = white(torch.empty(1, 4, 30), one)
    expected = seeded(1)
    white(torch.empty(1, 4, 30), expected)
    assert torch.equal(again, white(torch.empty(1, 4, 30), expected))
    with pytest.raises(ValueError, match="2 generators for 3 items"):
        white(torch.empty(3, 4, 30), [one, other])


def test_seeds_of_near_numbers_are_far_apart():
    seeds = [seed_of(a, b) for a in range(10) for b in range(10)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**63 for seed in seeds) and seed_of(3, 4) == seeds[34]
    torch.Generator().manual_seed(max(seeds))
    assert max(seeds) - min(seeds) > 2**62


def test_noise_has_the_level_and_subspace_asked_for(generator):
    x = torch.zeros(2, 4, 64, 200)
    noisy = add_noise(x, torch.tensor([0.5, 2.0]), Conditioning(torch.tensor([False, True]), torch.zeros(2, 4).bool()),
                      generator)
    # 51200 values: relative error of a standard deviation 0.3 %
    assert abs(noisy[0].std().item() / 0.5 - 1) < 0.02
    assert abs(noisy[1].std().item() / (2 * (3 / 4) ** 0.5) - 1) < 0.02  # zero-sum noise of four has 3/4 the variance
    assert noisy[1].sum(0).abs().max() < 1e-4


def test_levels_follow_their_two_distributions(generator):
    conditioning = Conditioning(torch.arange(20_000) % 2 == 0, torch.zeros(20_000, 4).bool())
    logs = draw_sigma(20_000, conditioning, (-1.6, 1.2), (0.2, 1.5), generator).log()
    for where, mean, std in ((~conditioning.mixture, -1.6, 1.2), (conditioning.mixture, 0.2, 1.5)):
        assert abs(logs[where].mean().item() - mean) < 0.06 and abs(logs[where].std().item() - std) < 0.05


def test_levels_are_those_of_the_generator():
    conditioning = Conditioning(torch.tensor([True, False, True]), torch.zeros(3, 4, dtype=torch.bool))
    z = torch.randn(3, generator=torch.Generator().manual_seed(5))
    found = draw_sigma(3, conditioning, (-1.0, 2.0), (0.5, 0.25), torch.Generator().manual_seed(5))
    torch.testing.assert_close(found.log(), torch.where(conditioning.mixture, 0.5 + 0.25 * z, -1.0 + 2.0 * z))


def test_noise_is_drawn_in_the_precision_of_the_stems_and_beside_them():
    x, sigma = torch.zeros(2, 3).double(), torch.tensor([0.5, 2.0]).double()
    n = torch.randn(2, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert torch.equal(add_noise(x, sigma, generator=torch.Generator().manual_seed(5)), sigma[:, None] * n)
    assert add_noise(x.to("meta"), sigma.to("meta")).device.type == "meta"


def test_noise_lies_in_the_unknown_subspace():
    x = torch.zeros(50_000, 3)
    n = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for mixture, stems in ((True, ()), (False, (0,)), (True, (2,))):
        conditioning = Conditioning(torch.full((50_000,), mixture),
                                    torch.tensor([[s in stems for s in range(3)]]).expand(50_000, 3))
        generated = add_noise(x, torch.full((50_000,), 2.0), conditioning, n=n)
        projection = project(torch.eye(3)[None], Conditioning(conditioning.mixture[:1], conditioning.stems[:1]))[0]
        assert torch.allclose(generated.T.cov(), 4 * projection, atol=4 * 4 * (2 / 50_000) ** 0.5)


def test_flags_and_masks_of_what_is_known():
    conditioning = Conditioning(torch.tensor([True, False]), torch.tensor([[False, False, True], [True, False, False]]))
    assert torch.equal(conditioning.flags(), torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]))
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    free = conditioning.unknown(x)
    assert free.shape == (2, 3, 1, 1) and free.dtype == x.dtype
    assert torch.equal(free.flatten(1), torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]).double())
    both = Conditioning.on_stems(x, [2, 0], mixture=True)
    assert both.mixture.tolist() == [True, True] and both.stems.tolist() == [[True, False, True]] * 2


def test_zero_sum_noise_loses_its_mean_over_the_unknown_stems():
    n = torch.tensor([[1.0, 2.0, 6.0]])
    assert torch.equal(project(n, None), n)
    assert torch.equal(project(n, Conditioning.on_mixture(n)), torch.tensor([[-2.0, -1.0, 3.0]]))
    assert torch.equal(project(n, Conditioning.on_stems(n, [0])), torch.tensor([[0.0, 2.0, 6.0]]))
    assert torch.equal(project(n, Conditioning.on_stems(n, [0], mixture=True)), torch.tensor([[0.0, -2.0, 2.0]]))
