import pytest
import torch

from msdm_lite.diffusion.noise import Conditioning, project, white


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
