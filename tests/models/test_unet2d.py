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


@pytest.fixture(params=[1, 4], ids=["a frame a column", "four frames a column"])
def net(request) -> UNet2d:
    """A small network of all parts, whose layers that begin at zero are random."""
    torch.manual_seed(0)
    net = UNet2d([(4, 1), (8, 2)], 2, 3, [16, 24], [1, 2], 8, frames_per_column=request.param)
    with torch.no_grad():
        for value in net.parameters():
            if not value.any():
                value.normal_(std=0.2)
    return net


def test_items_of_a_batch_do_not_mix(net):
    """What one item is, another does not notice; and a batch is its items one by one."""
    x, embedding = torch.randn(3, 2, 12, 9), torch.randn(3, 8)
    whole = net(x, embedding)
    assert whole.shape == (3, 3, 12, 9)
    alone = torch.cat([net(x[i : i + 1], embedding[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)
    x[1], embedding[1] = 100 * torch.randn(2, 12, 9), torch.randn(8)
    other = net(x, embedding)
    torch.testing.assert_close(other[[0, 2]], whole[[0, 2]], rtol=1e-4, atol=1e-5)
    assert (other[1] - whole[1]).abs().max() > 0.1


def test_every_parameter_has_a_gradient(net):
    net(torch.randn(2, 2, 12, 9), torch.randn(2, 8)).square().mean().backward()
    unused = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert unused == []


def test_the_level_has_an_effect_everywhere(net):
    """Through every residual block: with the other blocks' conditioning off, each one's alone changes the output."""
    x, embedding = torch.randn(1, 2, 12, 9), torch.randn(2, 1, 8)
    assert (net(x, embedding[0]) - net(x, embedding[1])).abs().max() > 0.05
    films = {name: module for name, module in net.named_modules() if name.endswith("film")}
    assert len(films) == 6
    with torch.no_grad():
        for film in films.values():
            film.weight.zero_()
        assert torch.equal(net(x, embedding[0]), net(x, embedding[1]))
        for name, film in films.items():
            film.weight.normal_(std=0.5)
            assert (net(x, embedding[0]) - net(x, embedding[1])).abs().max() > 1e-3, name
            film.weight.zero_()


def test_notes_reach_each_other_over_the_whole_width(net):
    """Attention at the bottom: a change in the first frame changes the last one; without attention it cannot."""
    x, embedding = torch.randn(1, 2, 12, 400), torch.randn(1, 8)
    later = x.clone()
    later[..., 0] += 3
    assert (net(x, embedding) - net(later, embedding))[..., -1].abs().max() > 1e-6
    torch.nn.init.zeros_(net.attention.out.weight)
    assert torch.equal(net(x, embedding)[..., -1], net(later, embedding)[..., -1])


def test_it_computes_in_the_type_of_its_weights(net):
    """Double precision stays double and agrees with single; under autocast half precision is near."""
    x, embedding = torch.randn(2, 2, 12, 9), torch.randn(2, 8)
    single = net(x, embedding)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, embedding)
    double = net.double()(x.double(), embedding.double())
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)
    assert 0 < (half.double() - double).norm() / double.norm() < 0.05  # eight bits


def test_an_untrained_network_gives_zero_at_any_level():
    torch.manual_seed(0)
    net = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8)
    assert not net(torch.randn(1, 2, 8, 5), torch.randn(1, 8)).any()
