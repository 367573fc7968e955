import copy

import pytest
import torch
from torch import nn

from msdm_lite.models.unet2d import Conv3x3, UNet2d


def test_frames_that_are_folded_come_back_where_they_were():
    """A net whose first layers pass on, and whose last give back, is the identity, also for lengths that do not fit."""
    torch.manual_seed(0)
    plain = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8)
    folded = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8, frames_per_column=4)
    x = torch.randn(3, 2, 8, 13)
    assert folded(x, torch.zeros(3, 8)).shape == plain(x, torch.zeros(3, 8)).shape == x.shape
    enter, leave = folded.space_to_depth.project_in[0], folded.space_to_depth.project_out[0]
    with torch.no_grad():
        enter.weight.copy_(torch.eye(16)[:, :, None, None])
        leave.weight.copy_(torch.eye(16)[:, :, None, None])
        enter.bias.zero_()
        leave.bias.zero_()
    column = x[:, :, 2:4, 4:8]  # rows 2 and 3, the second column of four frames
    padded = torch.nn.functional.pad(x, (0, 3)).unflatten(-1, (-1, 4)).movedim(-1, 2).flatten(1, 2)
    inside = folded.space_to_depth.to_depth(padded)
    assert torch.equal(inside[:, :, 1, 1].unflatten(1, (2, 4, 2)).movedim(2, 3), column)
    back = folded.space_to_depth.to_space(inside).unflatten(1, (-1, 4)).movedim(2, -1).flatten(-2)[..., :13]
    assert torch.equal(back, x)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_is_the_convolution_of_torch(layout):
    torch.manual_seed(0)
    ours = Conv3x3(6, 10).to(memory_format=layout)
    theirs = nn.Conv2d(6, 10, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 9, 7).to(memory_format=layout)
    g = torch.randn(2, 10, 9, 7)
    found = []
    for layer in (ours, theirs):
        at = x.clone().requires_grad_()
        out = layer(at)
        out.backward(g)
        found.append([out, at.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # single precision, sums in another order
    assert ours.weight.grad.shape == ours.weight.shape


def test_an_input_without_gradient_and_frozen_weights():
    torch.manual_seed(0)
    layer = Conv3x3(3, 4).to(memory_format=torch.channels_last)
    layer(torch.randn(1, 3, 5, 5)).sum().backward()
    assert layer.weight.grad.abs().max() > 0
    frozen = copy.deepcopy(layer).requires_grad_(False)
    x = torch.randn(1, 3, 5, 5, requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(frozen(x).sum(), x), torch.autograd.grad(layer(x).sum(), x))


def test_it_trains_under_autocast():
    layer = Conv3x3(3, 4).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(1, 3, 5, 5)).float().sum().backward()
    assert layer.weight.grad.isfinite().all()
