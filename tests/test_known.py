import torch

from msdm_lite.known import Known, project


def test_projection_is_orthogonal_and_keeps_what_is_known():
    x = torch.randn(4, 4, 5, dtype=torch.float64)
    known = Known(torch.tensor([False, True, True, False]),
                  torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool))
    once = project(x, known)
    assert torch.allclose(project(once, known), once)  # a projection
    other = torch.randn_like(x)
    assert torch.allclose((once * other).sum(), (x * project(other, known)).sum())  # a symmetric one
    assert torch.equal(once[0], x[0])
    assert once[1].sum(0).abs().max() < 1e-12  # the mixture carries no noise
    assert once[2, 0].abs().max() == 0 and once[2].sum(0).abs().max() < 1e-12
    assert once[3, 1:3].abs().max() == 0 and torch.equal(once[3, 0], x[3, 0])


def test_arguments_are_left_alone():
    x = torch.randn(2, 3, 4)
    before = x.clone()
    project(x, Known.the_mixture(x))
    assert torch.equal(x, before)


def test_a_single_unknown_stem_is_no_longer_unknown():
    """All but one stem and the mixture given: nothing is left to guess, and there is no noise."""
    x = torch.randn(1, 3, 4)
    known = Known(torch.tensor([True]), torch.tensor([[True, True, False]]))
    assert project(x, known).abs().max() == 0
