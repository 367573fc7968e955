"""Sketches, and the model that is conditioned on them."""

import copy

import pytest
import torch

from msdm_lite.audio.sketch import FLOOR, GROUPS, MIDDLE, SPREAD, Sketching, bands, sketch, spread
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import error
from msdm_lite.errors import InputError


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


def test_spread_is_the_sketch_at_the_resolution_of_spectrograms():
    picture = torch.randn(2, 3, 1024, 5)
    drawn = sketch(picture)
    wide = spread(drawn)
    assert wide.shape == picture.shape
    starts = torch.tensor([size for bins, size in GROUPS for _ in range(bins // size)]).cumsum(0) - 1
    assert torch.equal(wide[..., starts, :], drawn)


def test_a_sketch_has_no_way_back_to_sound():
    with pytest.raises(InputError, match="no sound"):
        Sketching(1024).inverse(torch.zeros(96, 4))


def test_conditions_reach_the_output(decoder, tiny):
    torch.manual_seed(1)
    decoder = copy.deepcopy(decoder)
    for layer in decoder.denoiser.net.space_to_depth.project_in:
        layer.weight.data.add_(0.05 * torch.randn_like(layer.weight))
    for layer in decoder.denoiser.net.space_to_depth.project_out:
        layer.weight.data.add_(0.05 * torch.randn_like(layer.weight))
    x, sigma = 0.1 * torch.randn(2, 4, 1024, 48), torch.tensor([0.1, 0.1])
    drawn = torch.randn(2, 4, 96, 48)
    one, other = decoder.denoise(x, sigma, Conditioning.none(x, sketch=drawn)), decoder.denoise(x, sigma)
    assert (one - other).abs().max() > 1e-3
    with pytest.raises(InputError, match="cannot be conditioned on the sketch"):
        tiny.denoise(x, sigma, Conditioning.none(x, sketch=drawn))
    # In training some items come with their sketch, and the loss of each is what it would be alone
    sketched = torch.tensor([True, False])
    noise = torch.randn_like(x)
    got = decoder.loss(x, sigma, Conditioning.none(x, sketched=sketched), noise)
    own = sketch(x)
    given = Conditioning.none(x[:1], sketch=own[:1])
    guess = torch.cat([decoder.denoise(x[:1] + sigma[0] * noise[:1], sigma[:1], given),
                       decoder.denoise(x[1:] + sigma[1] * noise[1:], sigma[1:])])
    torch.testing.assert_close(got, error(guess, x, sigma, decoder.denoiser.std), rtol=1e-4, atol=1e-5)
