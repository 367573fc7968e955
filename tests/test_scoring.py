import json

import numpy as np
import pytest
import soundfile
import torch

from msdm_lite import evaluate_songs as es
from msdm_lite import scoring
from msdm_lite.cli import main
from msdm_lite.errors import InputError
from msdm_lite.metrics import si_sdr

RATE = 1000


def stems(seconds=9, seed=0):
    return torch.randn(4, seconds * RATE, generator=torch.Generator().manual_seed(seed))


def test_windows_of_four_seconds_every_two():
    x = stems(9)
    w = scoring.windows(x, RATE)
    assert w.shape == (3, 4, 4 * RATE)  # from 0, 2 and 4 s; what begins at 6 s would be too short
    assert torch.equal(w[1], x[:, 2 * RATE : 6 * RATE])
    assert scoring.windows(x[:, :RATE], RATE).shape == (1, 4, RATE)


def test_both_scorings_agree_where_all_play():
    true = stems()
    found = true + 0.3 * stems(seed=1)
    published, active = scoring.improvements(found, true, RATE)
    assert torch.equal(published, active) and published.shape == (3, 4)
    mix = true.sum(0)
    by_hand = si_sdr(found[2, : 4 * RATE], true[2, : 4 * RATE]) - si_sdr(mix[: 4 * RATE], true[2, : 4 * RATE])
    assert published[0, 2].item() == pytest.approx(by_hand.item(), abs=1e-4)


def test_against_silence_a_quiet_guess_scores_tens_of_decibels_as_published_and_nothing_else():
    """Exactly 20 log10 of how much quieter the guess is than the mixture: the trap that the second scoring avoids."""
    true = stems()
    true[3] = 0
    found = true.clone()
    found[3] = 1e-3 * true.sum(0)
    published, active = scoring.improvements(found, true, RATE)
    assert published[:, 3] == pytest.approx([60.0] * 3, abs=0.5)
    assert active[:, 3].isnan().all() and not active[:, :3].isnan().any()


def test_windows_in_which_one_plays_alone_are_left_out():
    true = stems(12)
    true[1:, : 4 * RATE] = 0  # the first window is a solo
    published, _ = scoring.improvements(true, true, RATE)
    assert len(published) == len(scoring.windows(true, RATE)) - 1


def test_the_silence_test_is_the_published_one():
    length = 4 * RATE
    x = torch.zeros(1, length)
    x[0, 0] = 1.4e-5 * length
    assert not scoring.sounds(x).any()
    x[0, 0] = 1.6e-5 * length
    assert scoring.sounds(x).all()


def test_shapes_must_agree():
    with pytest.raises(InputError, match="differ in shape"):
        scoring.improvements(stems(9), stems(8), RATE)


@pytest.fixture
def slakh(tmp_path):
    """Two test songs and one for training in the layout of the paper's code."""
    rng = np.random.default_rng(0)
    for split, name in (("test", "Track00001"), ("test", "Track00002"), ("train", "Track00003")):
        folder = tmp_path / "slakh" / split / name
        folder.mkdir(parents=True)
        for stem in ("bass", "drums", "guitar", "piano"):
            soundfile.write(folder / f"{stem}.wav", 0.1 * rng.normal(size=5 * 22050), 22050)
    return tmp_path / "slakh"


def test_one_command_scores_a_copy_of_slakh(slakh, tmp_path, capsys):
    out = tmp_path / "result.json"
    assert main(["evaluate", "--songs", str(slakh), "--model", "tiny", "--seconds", "4", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["songs"]) == ["Track00001", "Track00002"] and found["n"] == 2 and found["windows"] == 2
    assert found["active"]["all"]["low"] is None  # no interval of two songs
    assert "dB" in capsys.readouterr().out


def test_segments_that_know_nothing_of_each_other(tiny):
    segment = tiny.config.frames * tiny.config.bins
    mix = 0.1 * torch.randn(2 * segment + 500)
    found = es.separated(mix, tiny, True, method="mixture-known", seed=0)
    assert found.shape == (4, 2 * segment)
    alone = es.separated(mix[segment : 2 * segment], tiny, False, method="mixture-known", seed=0)
    assert torch.allclose(found[:, segment:], alone, atol=1e-5)
    with pytest.raises(InputError, match="shorter than a segment"):
        es.separated(mix[:100], tiny, True)


def test_what_asks_no_model(slakh, capsys):
    nothing = es.evaluate_songs(str(slakh), method="mixture", progress=False)
    assert nothing["model"] is None and nothing["model_record"] == {} and "--model" not in nothing["command"]
    assert nothing["active"]["all"]["mean"] == pytest.approx(0, abs=1e-4)
    mask = es.evaluate_songs(str(slakh), method="ideal-mask", progress=False)
    assert mask["active"]["all"]["mean"] > 3 and mask["published"] == mask["active"]  # all four play all the time
    assert main(["evaluate", "--songs", str(slakh), "--method", "ideal-mask"]) == 0
    assert "dB" in capsys.readouterr().out


def test_songs_are_grouped_by_how_many_play(slakh):
    (slakh / "test" / "Track00002" / "piano.wav").unlink()
    found = es.evaluate_songs(str(slakh), method="ideal-mask", progress=False)
    assert {name: group["n"] for name, group in found["by_stems"].items()} == {"3": 1, "4": 1}
    assert found["active"]["piano"]["n"] == 1 and found["by_style"] == {}


def test_no_test_songs(tmp_path):
    with pytest.raises(InputError, match="folder of stems"):
        es.evaluate_songs(str(tmp_path / "nowhere"), "tiny", progress=False)
    alone = tmp_path / "one" / "song"  # of one player there is nothing to separate
    alone.mkdir(parents=True)
    soundfile.write(alone / "bass.wav", 0.05 * np.sin(0.1 * np.arange(200_000)), 22050)
    with pytest.raises(InputError, match="no test song in which two stems"):
        es.evaluate_songs(str(alone.parent), method="ideal-mask", progress=False)


def test_songs_take_no_given_stems(slakh, capsys):
    assert main(["evaluate", "--songs", str(slakh), "--model", "tiny", "--given", "drums"]) == 2
    assert "--given has no use here: separate of songs" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"n": 0}, {"n": -1}, {"seconds": 0.0}, {"seconds": -3.0},
                                      {"seconds": float("nan")}])
def test_no_songs_or_nothing_of_them(settings):
    from msdm_lite.evaluate_songs import evaluate_songs

    with pytest.raises(InputError, match="one song or more"):
        evaluate_songs("band", method="mixture", **settings)
