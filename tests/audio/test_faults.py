"""Faults of recordings, made here to measure."""

import math

import numpy as np
import pytest
import torch

from msdm_lite.audio import faults
from msdm_lite.data import example_clips
from tests.sounds import rng

RATE = 22050


def music(seconds=4.0):
    """Decaying tones and noise, a beat each half second."""
    t = np.arange(round(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * 220 * t) * np.exp(-4 * (t % 0.5)) + 0.2 * rng(0).standard_normal(len(t)) * np.exp(
        -60 * (t % 0.5))
    return torch.from_numpy(wave).float()


def test_ordinary_sounds_stay_the_same_tensor():
    sounds = [music(), torch.randn(2205), torch.randn(132300), torch.zeros(1000), torch.zeros(0), torch.ones(9000),
              (torch.arange(9000) % 400 == 0).float() - 1 / 400]  # pulses, and no clicks
    sounds += [clip.sum(0) for clip in map(example_clips.clip, ("band_00", "band_01", "composed_00"))]
    sounds += list(example_clips.clip("band_00"))
    for wave in sounds:
        found, mean, clicks = faults.repaired(wave)
        assert found is wave and mean == 0 and clicks == []


@pytest.mark.parametrize("mean", [0.01, -0.1, 0.8])
def test_an_offset_is_found_and_taken_out(mean):
    wave = 0.1 * (music() - music().mean())
    found = faults.repaired(wave + mean)
    assert found[1] == pytest.approx(mean, rel=1e-4) and not found[2]
    assert (found[0] - wave).abs().max() < 1e-6
    assert faults.offset(wave + 0.02 * float(wave.square().mean().sqrt())) == 0  # too little


@pytest.mark.parametrize("height", [1.0, -0.3])
@pytest.mark.parametrize("places", [[40000], [300, 9000, 60001], [88199 - 300]])
def test_clicks_are_bridged(height, places):
    wave = 0.01 * music()
    spoilt = wave.clone()
    spoilt[places] = height
    found, mean, clicks = faults.repaired(spoilt)
    assert [first <= place < last for place, (first, last) in zip(places, clicks, strict=True)] == [True] * len(places)
    assert mean == 0 and (found - wave).abs().max() < 0.01 and spoilt[places[0]] == pytest.approx(height)
    inside = torch.zeros(len(wave), dtype=torch.bool)
    for first, last in clicks:
        inside[first:last] = True
    assert torch.equal(found[~inside], wave[~inside]) and inside.sum() <= 33 * len(places)


def test_a_click_that_a_resampler_rang_is_bridged():
    wave = 0.01 * music()
    distance = torch.arange(len(wave)) - 40000.3
    spoilt = wave + torch.sinc(distance)
    found, _, clicks = faults.repaired(spoilt)
    assert len(clicks) == 1 and (found - wave).abs().max() < 0.03


def test_attacks_are_no_clicks():
    wave = torch.zeros(30000)
    wave[10000:] = torch.exp(-torch.arange(20000) / 500.0) * torch.randn(20000)
    assert faults.clicks(wave) == []


def test_clipping_is_measured():
    wave = music()
    assert faults.clipped(wave) == 0
    flat = (8 * wave).clamp(-0.5, 0.5)
    assert faults.clipped(flat) == pytest.approx(float((flat.abs() == 0.5).float().mean()), abs=0.02)
    assert faults.clipped(torch.stack([flat, wave])) == pytest.approx(faults.clipped(flat) / 2)
    assert faults.clipped(torch.zeros(2, 999)) == 0 and faults.clipped(torch.ones(2)) == 0
    assert faults.about_clipping(0.0234).startswith("2.3 %")


def test_sides_that_cancel():
    left = torch.randn(20000)
    for share, lost in ((-1, 180), (-0.99, 20 * math.log10(math.sqrt((1 + 0.99**2) / 2) / 0.005)), (1, 0), (0, 0)):
        sides = torch.stack([left, share * left])
        assert faults.cancelled(sides, sides.mean(0)) == pytest.approx(lost, abs=0.01)
    sides = torch.randn(2, 20000)
    assert faults.cancelled(sides, sides.mean(0)) == 0 and faults.cancelled(left[None], left) == 0
    assert faults.cancelled(torch.zeros(2, 9), torch.zeros(9)) == 0
    assert "26 dB" in faults.about_sides(26.02) and "nothing" in faults.about_sides(180)


def test_the_words_name_what_was_found():
    wave = torch.zeros(22050)
    wave[11025] = 0.7
    lines = faults.about_repairs(0.25, [(11020, 11030)], wave + 0.25, RATE, "(out)")
    assert lines == ["an offset of +0.25 (out)", "a click (up to 0.7, at 0.50 s) (out)"]
    assert faults.about_repairs(0.0, [], wave, RATE, "") == []
