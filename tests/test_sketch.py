"""Sketches, the model that makes them, and the model that is told them."""

import copy
from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion import error
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import build
from msdm_lite.recipe import Recipe
from msdm_lite.sketch import FLOOR, GROUPS, MIDDLE, SPREAD, Sketching, bands, sketch, spread
from msdm_lite.start import begin_with
from msdm_lite.unet import UNet2d


def test_a_tone_is_drawn_where_it_sounds():
    """1000 Hz are bin 92.9 of bands of 10.77 Hz: the band of bins 92 to 95, and no other reaches it."""
    rate, N = 22050, 1024
    wave = 0.3 * torch.sin(2 * torch.pi * 1000 * torch.arange(20 * N) / rate)
    wave[10 * N :] = 0
    drawn = Sketching(N).forward(wave)
    assert drawn.shape == (bands(), 20) and bands() == 96
    assert (drawn[:, 2:8].argmax(0) == 32 + 16 + (92 - 64) // 4).all()
    silence = (torch.tensor(FLOOR).log10() - MIDDLE) / SPREAD
    assert torch.allclose(drawn[:, 12:18], silence.expand(96, 6))


def test_spread_is_the_sketch_at_the_resolution_of_pictures():
    picture = torch.randn(2, 3, 1024, 5)
    drawn = sketch(picture)
    wide = spread(drawn)
    assert wide.shape == picture.shape
    starts = torch.tensor([size for bins, size in GROUPS for _ in range(bins // size)]).cumsum(0) - 1
    assert torch.equal(wide[..., starts, :], drawn)


def test_a_sketch_has_no_way_back_to_sound():
    with pytest.raises(InputError, match="no sound"):
        Sketching(1024).inverse(torch.zeros(96, 4))


def test_it_begins_by_ignoring_the_sketch(tiny, painter):
    """Weights for what is new begin at zero: the same answers as before, with a sketch and without."""
    x, sigma = torch.randn(2, 4, 1024, 48), torch.tensor([0.1, 1.0])
    for known in (None, Known.the_mixture(x), Known.these(x, [0, 2])):
        want = tiny.denoise(x, sigma, known)
        torch.testing.assert_close(painter.denoise(x, sigma, known), want, rtol=1e-4, atol=1e-5)
        told = painter.denoise(x, sigma, known, sketch=torch.randn(2, 4, 96, 48))
        torch.testing.assert_close(told, want, rtol=1e-4, atol=1e-5)


def test_what_it_is_told_reaches_the_answer(painter, tiny):
    torch.manual_seed(1)
    painter = copy.deepcopy(painter)
    for layer in painter.denoiser.net.folding.enter:
        layer.weight.data.add_(0.05 * torch.randn_like(layer.weight))
    for layer in painter.denoiser.net.folding.leave:
        layer.weight.data.add_(0.05 * torch.randn_like(layer.weight))
    x, sigma = 0.1 * torch.randn(2, 4, 1024, 48), torch.tensor([0.1, 0.1])
    drawn = torch.randn(2, 4, 96, 48)
    one, other = painter.denoise(x, sigma, sketch=drawn), painter.denoise(x, sigma)
    assert (one - other).abs().max() > 1e-3
    with pytest.raises(InputError, match="cannot be told a sketch"):
        tiny.denoise(x, sigma, sketch=drawn)
    # In training some items come with their sketch, and the loss of each is what it would be alone
    sketched = torch.tensor([True, False])
    noise = torch.randn_like(x)
    got = painter.loss(x, sigma, Known.nothing(x), noise, sketched)
    own = sketch(x)
    guess = torch.cat([painter.denoise(x[:1] + sigma[0] * noise[:1], sigma[:1], sketch=own[:1]),
                       painter.denoise(x[1:] + sigma[1] * noise[1:], sigma[1:])])
    torch.testing.assert_close(got, error(guess, x, sigma, painter.denoiser.deviation), rtol=1e-4, atol=1e-5)


def test_weights_of_other_sizes_are_refused(tiny):
    small = build(replace(tiny.config, widths=(16, 48, 64)))
    with pytest.raises(InputError, match="other sizes"):
        begin_with(tiny, small, Recipe(preset="tiny", steps=10**9), tiny.stems)


def test_an_untrained_sketcher_is_a_wiener_filter_and_keeps_what_is_known(sketcher):
    x, sigma = torch.randn(2, 4, 96, 30), torch.tensor([0.5, 2.0])
    s2 = sigma.square()[:, None, None, None]
    torch.testing.assert_close(sketcher.denoise(x, sigma), x / (1 + s2))
    known = Known.these(x, [1, 3])
    got = sketcher.denoise(x, sigma, known)
    assert torch.equal(got[:, [1, 3]], x[:, [1, 3]])
    torch.testing.assert_close(got[:, [0, 2]], (x / (1 + s2))[:, [0, 2]])


def test_its_loss_is_one_for_white_sketches(sketcher):
    """A filter of white data of variance one leaves what it says it leaves: 4 * 96 * 120 numbers, to 2 %."""
    torch.manual_seed(0)
    x = torch.randn(4, 4, 96, 120)
    known = Known.these(x, [0])
    for k in (Known.nothing(x), known):
        value = sketcher.loss(x, torch.full((4,), 0.7), k, torch.randn_like(x)).mean().item()
        assert abs(value - 1) < 0.02


def test_frames_that_are_folded_come_back_where_they_were():
    """A net whose first layers pass on, and whose last give back, is the identity, also for lengths that do not fit."""
    torch.manual_seed(0)
    plain = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8)
    folded = UNet2d([(8, 2)], 2, 2, [16, 16], [1, 1], 8, fold_frames=4)
    x = torch.randn(3, 2, 8, 13)
    assert folded(x, torch.zeros(3, 8)).shape == plain(x, torch.zeros(3, 8)).shape == x.shape
    enter, leave = folded.folding.enter[0], folded.folding.leave[0]
    with torch.no_grad():
        enter.weight.copy_(torch.eye(16)[:, :, None, None])
        leave.weight.copy_(torch.eye(16)[:, :, None, None])
        enter.bias.zero_()
        leave.bias.zero_()
    column = x[:, :, 2:4, 4:8]  # rows 2 and 3, the second column of four frames
    inside = folded.folding.fold(torch.nn.functional.pad(x, (0, 3)).unflatten(-1, (-1, 4)).movedim(-1, 2).flatten(1, 2))
    assert torch.equal(inside[:, :, 1, 1].unflatten(1, (2, 4, 2)).movedim(2, 3), column)
    back = folded.folding.unfold(inside).unflatten(1, (-1, 4)).movedim(2, -1).flatten(-2)[..., :13]
    assert torch.equal(back, x)
