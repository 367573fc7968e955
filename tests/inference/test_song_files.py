import pytest
import torch

from msdm_lite.audio.decode import Sound
from msdm_lite.audio.io import resample
from msdm_lite.errors import InputError
from msdm_lite.inference.separation import separate
from msdm_lite.inference.song_files import Wanted, separated, sides_of


def song(channels=2, rate=44100, seconds=0.5):
    return Sound(0.1 * torch.randn(channels, round(rate * seconds)), rate, {})


@pytest.mark.parametrize("channels, rate, wanted, shape", [
    (2, 44100, Wanted(), (2, 22050)), (1, 44100, Wanted(), (1, 22050)), (2, 48000, Wanted(), (2, 24000)),
    (2, 44100, Wanted(mono=True), (1, 22050)), (2, 44100, Wanted(rate="model"), (2, 11025)),
    (2, 16000, Wanted(), (2, 8000)), (1, 22050, Wanted(rate="48000"), (1, 24000)), (6, 44100, Wanted(), (1, 22050))])
def test_stems_have_the_sides_and_the_rate_that_were_asked_for(tiny, channels, rate, wanted, shape):
    sound = song(channels, rate)
    waves = separated(sound, tiny, {}, wanted)
    assert list(waves) == list(tiny.stems) and {tuple(wave.shape) for wave in waves.values()} == {shape}
    whole = resample(sides_of(sound, wanted.mono), rate, wanted.sample_rate(sound, tiny))
    assert (sum(waves.values()) - whole).abs().max() < 1e-5


def test_at_the_rate_of_the_model_they_are_those_of_separate(tiny):
    sound = song(rate=22050)
    waves = separated(sound, tiny, {}, Wanted(), seed=3)
    assert torch.equal(torch.stack(list(waves.values())), separate(sound.samples, tiny, keep_stereo=True, seed=3))
    waves = separated(sound, tiny, {}, Wanted(mono=True))
    assert torch.equal(torch.stack(list(waves.values()))[:, 0], separate(sound.samples.mean(0), tiny))


@pytest.mark.parametrize("rate", ["input", "model"])
@pytest.mark.parametrize("mono", [False, True])
def test_one_stem_and_the_rest(tiny, rate, mono):
    sound = song()
    all_of_them = separated(sound, tiny, {}, Wanted(mono, rate))
    two = separated(sound, tiny, {}, Wanted(mono, rate, "drums"))
    assert list(two) == ["drums", "rest"] and torch.equal(two["drums"], all_of_them["drums"])
    rest = sum(wave for name, wave in all_of_them.items() if name != "drums")
    assert (two["rest"] - rest).abs().max() < 1e-5
    with pytest.raises(InputError, match="no stem 'flute'"):
        Wanted(two_stems="flute").names(tiny)


def test_a_given_mono_stem_stands_on_both_sides(tiny):
    mix, drums = song(), Sound(0.05 * torch.randn(1, 24000), 48000, {})
    waves = separated(mix, tiny, {"drums": drums}, Wanted())
    expected = resample(drums.samples, 48000, 44100)
    assert torch.equal(waves["drums"], expected.expand(2, -1))
    assert (sum(waves.values()) - mix.samples).abs().max() < 1e-5
    both = Sound(torch.cat([drums.samples, 0.5 * drums.samples]), 48000, {})
    waves = separated(mix, tiny, {"drums": both}, Wanted(mono=True))
    torch.testing.assert_close(waves["drums"], 0.75 * expected)


def test_rates_that_cannot_be():
    for rate in ("fast", "-1", "0", "1e9", "44100.0", "10000000000", "４４１００"):
        with pytest.raises(InputError, match="a rate is input, model, or"):
            Wanted(rate=rate)


def test_many_channels_are_mixed_down_and_said(said):
    sound = song(6)
    assert torch.equal(sides_of(sound, False), sound.samples.mean(0, keepdim=True))
    assert said() == ["the mixture: 6 channels are mixed down to one"]
