"""Sounds with an offset, clicks, noise before the music, clipping: what a model gets of them, and what is said."""

import pytest
import torch

from msdm_lite.audio.levels import mixture_rms
from msdm_lite.data.example_clips import clip
from msdm_lite.inference import levels
from msdm_lite.inference.accompaniment import accompany
from msdm_lite.inference.separation import separate, separate_batch

RATE = 22050


@pytest.fixture(scope="module")
def mix():
    return clip("band_00").sum(0)[: 3 * RATE]


def test_an_ordinary_sound_stays_as_it_is(mix, caplog):
    sound, rms = levels.prepared(mix, RATE)
    assert sound is mix and rms == mixture_rms(mix, RATE // 4) and not caplog.text
    whole = mix.reshape(-1)[: len(mix) // 5512 * 5512].reshape(-1, 5512).double().square().mean(1)
    assert rms == pytest.approx(float(whole[whole > 1e-4 * whole.max()].mean().sqrt()), rel=0.02)


def spoilt(mix, how):
    """A mix with a fault, and the mix without it."""
    if how == "offset":
        return 0.5 * mix + 0.4, 0.5 * mix
    with_click = 0.01 * mix
    with_click[20000] = 1.0
    return with_click, 0.01 * mix


@pytest.mark.parametrize("how", ["offset", "click"])
def test_a_fault_changes_the_stems_little(tiny, mix, caplog, how):
    """Stems of the sound with the fault are those of the sound without: to 40 dB, where they were lost before."""
    wave, clean = spoilt(mix, how)
    found, right = separate(wave, tiny, steps=3), separate(clean, tiny, steps=3)
    assert (found - right).square().sum() < 1e-3 * right.square().sum()
    assert caplog.text.count("taken out, in no stem") == 1 and how in caplog.text
    batch = separate_batch(torch.stack([wave, clean]), tiny, steps=3)
    assert (batch[0] - found).abs().max() < 1e-4 * found.abs().max()


def test_minutes_of_noise_before_the_music_do_not_set_the_level(mix):
    noise = torch.randn(20 * RATE) * 0.03 * mix.square().mean().sqrt()
    for before in (noise, 0.001 * noise):
        _, rms = levels.prepared(torch.cat([before, mix]), RATE)
        assert rms == pytest.approx(levels.prepared(mix, RATE)[1], rel=0.15)


CHANGES = {"clipped": lambda mix: (20 * mix).clamp(-1, 1), "very soft (RMS": lambda mix: 1e-4 * mix,
           "50 % of it is more than 40 dB softer": lambda mix: torch.cat([1e-4 * mix, mix]), "": lambda mix: mix}


@pytest.mark.parametrize("says, change", CHANGES.items(), ids=["clipped", "soft", "soft start", "ordinary"])
def test_what_no_gain_mends_is_said(mix, caplog, says, change):
    sound, _ = levels.prepared(change(mix), RATE)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == bool(says) and all(says in line and line.startswith("the mixture: ") for line in lines)
    assert torch.equal(sound, change(mix))


def test_given_stems_keep_their_offset_and_the_model_does_not_get_it(tiny, caplog):
    bass = clip("band_00")[0][:RATE]
    band = accompany({"bass": bass + 0.3}, tiny, steps=3)
    right = accompany({"bass": bass}, tiny, steps=3)
    assert torch.equal(band[0], bass + 0.3) and "the stem stays as it is" in caplog.text
    assert (band[1:] - right[1:]).square().sum() < 1e-3 * right[1:].square().sum()


def test_a_mix_whose_stems_are_given_keeps_its_offset(tiny, mix, caplog):
    drums = 0.2 * mix
    stems = separate(mix + 0.2, tiny, steps=3, given={"drums": drums})
    assert torch.equal(stems[1], drums) and (stems.sum(0) - mix - 0.2).abs().max() < 1e-3
    assert "left in" in caplog.text
