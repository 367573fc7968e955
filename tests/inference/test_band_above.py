import math

import pytest
import torch

from msdm_lite.audio.io import resample
from msdm_lite.inference.band_above import extended, fitted, shares

RATE, FULL = 22050, 44100


def tone(frequency, seconds=1.0, rate=FULL, level=0.1):
    return level * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate), dtype=torch.float64) / rate
                             ).float()


def level(wave, frequency, rate=FULL):
    """Amplitude of a frequency in the middle of a wave."""
    middle = wave[len(wave) // 4 : -len(wave) // 4].double()
    turn = 2 * math.pi * frequency * torch.arange(len(middle), dtype=torch.float64) / rate
    return 2 * torch.hypot((middle * turn.cos()).mean(), (middle * turn.sin()).mean()).item()


def test_shares_are_those_of_power_at_the_top_of_the_band():
    """Twice the amplitude is four times the power; a low tone counts for nothing; silence is shared equally."""
    loud, soft, low = tone(9000, rate=RATE, level=0.2), tone(10000, rate=RATE, level=0.1), tone(100, rate=RATE)
    found = shares(torch.stack([loud, soft, torch.zeros(RATE)]))
    middle = found[:, 10:-10]
    torch.testing.assert_close(middle, torch.tensor([0.8, 0.2, 0.0])[:, None].expand_as(middle), rtol=2e-2, atol=1e-6)
    assert (found[2] == 0).all() and torch.allclose(found.sum(0), torch.ones(found.shape[1]))
    assert (shares(torch.stack([loud, low]))[1, 10:-10] < 1e-3).all()
    assert torch.equal(shares(torch.zeros(4, 3000)), torch.full((4, 6), 0.25))
    assert torch.allclose(shares(torch.stack([low, torch.zeros(RATE)])),
                          torch.tensor([[1.0], [0.0]]).expand(2, 44))  # no power at the top: that of the whole band


def test_shares_do_not_depend_on_blocks(monkeypatch):
    stems = torch.randn(2, 30_000)
    whole = shares(stems)
    monkeypatch.setattr("msdm_lite.inference.band_above.MOST", 7)
    assert torch.equal(shares(stems), whole)


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 96000])
@pytest.mark.parametrize("sides", [(), (2,)])
def test_stems_sum_to_the_input(rate, sides):
    whole = 0.3 * torch.randn(*sides, rate)
    mix = resample(whole, rate, RATE)
    part = torch.rand(3, *sides, mix.shape[-1])
    stems = part / part.sum(0) * mix
    found = extended(stems, mix, whole, RATE, rate)
    assert found.shape == (3, *sides, rate)
    assert (found.sum(0) - whole).abs().max() < 2e-6


def test_what_lies_above_goes_to_the_stem_that_has_power_below():
    """Two stems of known levels: 9 kHz at 0.2 and 10 kHz at 0.1, and a bass. 15 kHz at 0.1 is shared 4 : 1 : 0."""
    stems = torch.stack([tone(9000, level=0.2), tone(10000, level=0.1), tone(60)])
    whole = stems.sum(0) + tone(15000)
    known = torch.stack([resample(stem, FULL, RATE) for stem in stems])
    found = extended(known, known.sum(0), whole, RATE, FULL)
    assert [level(stem, 15000) for stem in found] == pytest.approx([0.08, 0.02, 0.0], abs=2e-3)
    assert level(found[0], 9000) == pytest.approx(0.2, rel=1e-3)
    assert (found.sum(0) - whole).abs().max() < 1e-6


def test_a_given_stem_comes_back_and_what_it_has_above_is_not_shared():
    drums, guitar = tone(9000) + tone(18000), tone(9500)
    whole = drums + guitar
    low = torch.stack([resample(wave, FULL, RATE) for wave in (drums, guitar)])
    found = extended(low, low.sum(0), whole, RATE, FULL, {0: drums})
    assert torch.equal(found[0], drums)
    assert level(found[1], 18000) < 1e-4 and (found.sum(0) - whole).abs().max() < 1e-6


def test_sides_are_shared_each_for_itself():
    """A stem that plays on the left alone gets nothing of the right."""
    left, right = torch.stack([tone(9000), torch.zeros(FULL)]), torch.stack([torch.zeros(FULL), tone(9000)])
    whole = torch.stack([tone(9000) + tone(15000), tone(9000)])
    low = torch.stack([resample(wave, FULL, RATE) for wave in (left, right)])
    found = extended(low, low.sum(0), whole, RATE, FULL)
    assert level(found[0, 0], 15000) == pytest.approx(0.1, rel=1e-2)
    assert level(found[1, 0], 15000) < 1e-3 and level(found[0, 1], 15000) < 1e-3


def test_a_wave_of_another_length():
    assert fitted(torch.ones(2, 3), 5).tolist() == [[1, 1, 1, 0, 0]] * 2
    assert fitted(torch.ones(3), 2).tolist() == [1, 1]
