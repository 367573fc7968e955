import pytest
import torch

import msdm_lite
from msdm_lite.audio import io as audio_io
from msdm_lite.audio.levels import mixture_rms
from msdm_lite.errors import InputError
from msdm_lite.inference.accompaniment import load_stems, save_band
from msdm_lite.models.independent import IndependentModels
from tests.models.test_independent import single


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


def test_new_stems_follow_the_loudness_of_given_ones(tiny):
    given = {"bass": torch.randn(22050), "drums": 0.3 * torch.randn(22050)}
    loud = msdm_lite.accompany(given, tiny, steps=3)
    quiet = msdm_lite.accompany({name: 1e-3 * wave for name, wave in given.items()}, tiny, steps=3)
    assert torch.allclose(loud, 1e3 * quiet, rtol=1e-3, atol=1e-4)


def test_stems_beside_silence_have_the_level_of_training(tiny, caplog):
    band = msdm_lite.accompany({"bass": torch.zeros(22050)}, tiny, steps=3)
    assert "silent" in caplog.text and not band[0].any() and 0 < mixture_rms(band[1], 5000) < 1


def test_same_seed_same_stems(tiny):
    given = {"bass": 0.1 * torch.randn(22050)}
    runs = [msdm_lite.accompany(given, tiny, seed=seed, steps=3) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_shorter_stems_are_followed_by_silence_and_that_is_said(tiny, tmp_path, caplog):
    audio_io.save(tmp_path / "d.wav", 0.1 * torch.randn(8820), 44100)  # 0.2 s, at another rate
    waves = load_stems({"bass": torch.randn(22050), "drums": tmp_path / "d.wav"}, tiny)
    assert [len(wave) for wave in waves.values()] == [22050, 22050] and not waves["drums"][4410:].any()
    assert "drums is 0.80 s shorter" in caplog.text


@pytest.mark.parametrize("given, says", [
    ({}, "no stem is given"), (dict.fromkeys(audio_io.STEMS, torch.ones(5000)), "no stem to add"),
    ({"flute": torch.ones(5000)}, "no stem 'flute'"), ({"bass": torch.ones(100)}, "too short"),
    ({"bass": torch.ones(2, 5000)}, "mono"), ({"bass": torch.full((5000,), torch.nan)}, "not finite"),
    ({"bass": "nowhere.wav"}, "no such file")])
def test_stems_that_cannot_be_accompanied(tiny, given, says):
    with pytest.raises(InputError, match=says):
        msdm_lite.accompany(given, tiny)


def test_models_of_plain_noise_impute_by_replacement():
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


def test_a_band_is_saved_as_its_stems_and_their_sum(tiny, tmp_path):
    band = 0.1 * torch.randn(4, 5000)
    paths = save_band(tmp_path / "new" / "band", band, tiny)
    assert [path.name for path in paths] == ["bass.wav", "drums.wav", "guitar.wav", "piano.wav", "mix.wav"]
    assert {path.parent for path in paths} == {tmp_path / "new" / "band"}
    for path, wave in zip(paths, [*band, band.sum(0)], strict=True):
        assert torch.allclose(audio_io.load(path, tiny.sample_rate), wave, atol=1e-6)
