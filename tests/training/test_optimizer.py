import pytest
import torch

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models.config import preset
from msdm_lite.models.weights import build
from msdm_lite.training import optimizer


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_optimizers_take_every_weight_once(tiny, name):
    model = build(preset("tiny"))
    made = optimizer.optimizer(name, model, 1e-3, 0.1)
    held = [p for group in made.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()} and len(held) == len(set(map(id, held)))
    plain = [group for group in made.param_groups if group["weight_decay"] == 0]
    assert all(p.ndim <= 1 for group in plain for p in group["params"])
    x, sigma = 0.05 * torch.randn(2, 4, 1024, 8), torch.tensor([0.1, 1.0])
    before = [p.clone() for p in model.parameters()]
    for _ in range(4):  # last layers start at zero, and pass no gradient on at first
        model.loss(x, sigma, Conditioning.on_mixture(x), torch.randn_like(x)).mean().backward()
        made.step()
        made.zero_grad()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_muon_moves_all_directions_of_a_matrix_alike():
    """After one step the singular values of a matrix's change are alike; the gradient's are not."""
    model = build(preset("tiny"))
    weight = model.denoiser.net.down[0][0].conv1.weight
    before = weight.detach().clone().flatten(1)
    made = optimizer.optimizer("muon", model, 1e-2, 0.0)
    weight.grad = torch.randn_like(weight) * torch.logspace(0, -2, len(weight))[:, None, None, None]
    made.step()
    values = torch.linalg.svdvals(weight.detach().flatten(1) - before)
    assert values[0] / values[-1] < 3 < 30 < (s := torch.linalg.svdvals(weight.grad.flatten(1)))[0] / s[-1]


def test_muon_in_single_precision_is_the_library_s(monkeypatch):
    """Where bfloat16 is slow the same step is made in float32: the same weights, to bfloat16's three digits."""
    after = []
    for fast in (True, False):
        monkeypatch.setattr(optimizer, "fast_bfloat16", lambda kind, fast=fast: fast)
        torch.manual_seed(0)
        model = build(preset("tiny"))
        made = optimizer.optimizer("muon", model, 1e-2, 0.0)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        made.step()
        after.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    for name, move in after[0].items():
        assert (after[1][name] - move).norm() <= 0.05 * move.norm(), name
    name = "denoiser.net.down.0.0.conv1.weight"  # of a library that goes another way this would be the same twice
    assert not torch.equal(after[0][name], after[1][name])


def test_no_such_optimizer(tiny):
    with pytest.raises(InputError, match="no optimizer 'magic'"):
        optimizer.optimizer("magic", tiny, 1e-3, 0.0)
