from dataclasses import replace

import pytest
import torch

import msdm_lite
from msdm_lite.audio import io as audio_io
from msdm_lite.audio import levels
from msdm_lite.audio.levels import mixture_rms
from msdm_lite.audio.sketch import sketch
from msdm_lite.errors import InputError
from msdm_lite.inference.accompaniment import load_stems
from msdm_lite.inference.encoding import encode
from msdm_lite.models.weights import build
from tests.models.test_independent import single


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.3])
def test_bands_have_the_length_that_was_asked_for(tiny, seconds):
    bands = msdm_lite.generate(tiny, seconds, n=2, steps=3)
    assert bands.shape == (2, 4, round(seconds * 22050)) and bands.dtype == torch.float32
    assert (bands.square().mean(-1) > 0).all()


def test_a_band_depends_on_its_seed_and_number_alone(tiny):
    three, one, other = (msdm_lite.generate(tiny, 0.5, n, seed, steps=3) for n, seed in ((3, 1), (1, 1), (1, 2)))
    assert torch.equal(three[0], one[0]) and not torch.equal(one, other) and not torch.equal(three[0], three[1])


@pytest.mark.parametrize("settings, says", [({"n": 0}, "cannot be made"), ({"seconds": 0.0}, "cannot be made"),
                                            ({"seconds": float("nan")}, "cannot be made"), ({"seed": -1}, "0 or more"),
                                            ({"method": "magic"}, "no method"), ({"steps": 0}, "no schedule"),
                                            ({"sampler": "magic"}, "no sampler"), ({"sigma_max": -1.0}, "no schedule")])
def test_bands_that_cannot_be_made(tiny, settings, says):
    with pytest.raises(InputError, match=says):
        msdm_lite.generate(tiny, **{"seconds": 0.5} | settings)


@pytest.mark.parametrize("method", ["stems-given", "replacement"])
@pytest.mark.parametrize("names", [("drums",), ("bass", "piano"), ("bass", "drums", "guitar")])
def test_given_stems_come_back_and_the_others_are_played(tiny, method, names):
    given = {name: 0.1 * torch.randn(30_000) for name in names}
    band = msdm_lite.accompany(given, tiny, method=method, steps=4)
    assert band.shape == (4, 30_000)
    for n, name in enumerate(audio_io.STEMS):
        if name in names:
            assert torch.equal(band[n], given[name])
        else:
            assert band[n].square().mean() > 1e-8


def test_players_follow_the_loudness_of_what_is_given(tiny):
    given = {"bass": torch.randn(22050), "drums": 0.3 * torch.randn(22050)}
    loud = msdm_lite.accompany(given, tiny, steps=3)
    quiet = msdm_lite.accompany({name: 1e-3 * wave for name, wave in given.items()}, tiny, steps=3)
    assert torch.allclose(loud, 1e3 * quiet, rtol=1e-3, atol=1e-4)


def test_players_of_silence_are_as_loud_as_the_model_knows(tiny, caplog):
    band = msdm_lite.accompany({"bass": torch.zeros(22050)}, tiny, steps=3)
    assert "silent" in caplog.text and not band[0].any() and 0 < mixture_rms(band[1], 5000) < 1


def test_same_seed_same_players(tiny):
    given = {"bass": 0.1 * torch.randn(22050)}
    runs = [msdm_lite.accompany(given, tiny, seed, steps=3) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_shorter_stems_are_followed_by_silence_and_that_is_said(tiny, tmp_path, caplog):
    audio_io.save(tmp_path / "d.wav", 0.1 * torch.randn(8820), 44100)  # 0.2 s, at another rate
    waves = load_stems({"bass": torch.randn(22050), "drums": tmp_path / "d.wav"}, tiny)
    assert [len(wave) for wave in waves.values()] == [22050, 22050] and not waves["drums"][4410:].any()
    assert "drums is 0.80 s shorter" in caplog.text


@pytest.mark.parametrize("given, says", [
    ({}, "no stem is given"), (dict.fromkeys(audio_io.STEMS, torch.ones(5000)), "no player to add"),
    ({"flute": torch.ones(5000)}, "no stem 'flute'"), ({"bass": torch.ones(100)}, "too short"),
    ({"bass": torch.ones(2, 5000)}, "mono"), ({"bass": torch.full((5000,), torch.nan)}, "not finite"),
    ({"bass": "nowhere.wav"}, "no such file")])
def test_stems_that_cannot_be_accompanied(tiny, given, says):
    with pytest.raises(InputError, match=says):
        msdm_lite.accompany(given, tiny)


def test_models_of_plain_noise_impute_by_replacement():
    from msdm_lite.models.independent import IndependentModels
    pair = IndependentModels([single("bass", 1), single("drums", 2)])
    given = {"bass": 0.1 * torch.randn(9000)}
    assert torch.equal(msdm_lite.accompany(given, pair, steps=3)[0], given["bass"])
    with pytest.raises(InputError, match="not trained with stems"):
        msdm_lite.accompany(given, pair, method="stems-given")
    with pytest.raises(InputError, match="not trained with a mixture"):
        msdm_lite.separate(torch.randn(9000), pair, "mixture-constrained")
    mix = 0.1 * torch.randn(9000)
    stems = msdm_lite.separate(mix, pair, steps=3)  # Dirac is what suits it
    assert torch.allclose(stems.sum(0), mix, atol=1e-5)


def test_a_sketch_comes_first_and_the_model_paints_it(decoder, sketcher, given_conditions):
    """The painter is told one and the same sketch at every level, of the players that the sketcher was given too."""
    seen = given_conditions(decoder, "sketch")
    bands = msdm_lite.generate(decoder, 1.0, n=2, seed=3, steps=3, sketcher=sketcher)
    assert bands.shape == (2, 4, 22050) and torch.isfinite(bands).all()
    assert len(seen) == 6 and all(torch.equal(seen[0], one) for one in seen[:3])
    assert seen[0].shape[:3] == (1, 4, 96) and not torch.equal(seen[0], seen[3])
    seen.clear()
    again = msdm_lite.generate(decoder, 1.0, n=1, seed=3, steps=3, sketcher=sketcher)
    assert torch.equal(again[0], bands[0])
    seen.clear()
    given = {"bass": 0.1 * torch.randn(30_000), "piano": 0.1 * torch.randn(30_000)}
    band = msdm_lite.accompany(given, decoder, steps=3, sketcher=sketcher)
    assert torch.equal(band[0], given["bass"]) and torch.equal(band[3], given["piano"])
    gain = levels.STEM_RMS / (sum(mixture_rms(wave, 22050 // 4) ** 2 for wave in given.values()) / 2) ** 0.5
    for n, name in ((0, "bass"), (3, "piano")):
        torch.testing.assert_close(seen[0][0, n], sketch(encode(given[name], decoder, gain)), rtol=1e-4, atol=1e-4)


def test_pairs_that_cannot_work(tiny, decoder, sketcher):
    with pytest.raises(InputError, match="not trained to decode"):
        msdm_lite.generate(tiny, 0.5, sketcher=sketcher)
    with pytest.raises(InputError, match="no sketcher"):
        msdm_lite.accompany({"bass": torch.ones(22050)}, decoder, sketcher=tiny)
    other = build(replace(sketcher.config, stems=("bass", "drums")))
    with pytest.raises(InputError, match="do not agree"):
        msdm_lite.generate(decoder, 0.5, sketcher=other)
    with pytest.raises(InputError, match="the sketcher is on meta and the model on cpu"):
        msdm_lite.generate(decoder, 0.5, sketcher=build(sketcher.config).to("meta"))


def test_a_sketcher_alone_makes_no_sound(sketcher):
    with pytest.raises(InputError, match="no sound"):
        msdm_lite.generate(sketcher, 0.5, steps=2)
    with pytest.raises(InputError, match="no sound"):
        msdm_lite.separate(torch.randn(22050), sketcher)


def test_bands_that_are_made_together_are_those_made_alone(tiny):
    one, three = (msdm_lite.generate(tiny, 0.5, 5, 1, steps=3, batch=batch) for batch in (1, 3))
    assert (one - three).abs().max() < 1e-3 * one.abs().max()
    with pytest.raises(InputError, match="one or more"):
        msdm_lite.generate(tiny, 0.5, batch=0)


def test_sketches_that_are_made_together_are_those_made_alone(decoder, sketcher):
    """Each to the click of its own tempo."""
    one, two = (msdm_lite.generate(decoder, 0.5, 2, 1, steps=3, sketcher=sketcher, batch=batch) for batch in (1, 2))
    assert (one - two).abs().max() < 1e-3 * one.abs().max()
