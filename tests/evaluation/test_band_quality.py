import json
import math

import pytest
import torch

from msdm_lite.audio.io import STEMS
from msdm_lite.cli import main
from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import band_quality
from msdm_lite.models import weights


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    return torch.stack([example_clips.clip(entry["name"])[:, : 4 * 22050]
                        for entry in example_clips.clips("band")[:10]])


def test_real_bands_are_as_good_as_themselves_and_belong_together(real):
    found = band_quality.compare_bands(real, real, STEMS)
    assert found["audible"]["all"] > 0.8 and found["beat"]["ratio"] == found["pitch"]["ratio"] == 1
    assert found["heard"]["mean"] == found["audible"]["all"]
    low, high = found["beat"]["interval"]
    assert 0.6 < low < 1 < high < 1.6
    for name in ("onsets", "chroma"):
        one = found[name]
        assert one["made"] == one["real"] and one["made"]["mean"] > one["shuffled"]["mean"]
        assert one["difference"]["mean"] == pytest.approx(one["made"]["mean"] - one["shuffled"]["mean"], abs=0.05)


def test_noise_differs_from_music(real):
    noise = 0.06 * torch.randn(10, 4, 4 * 22050, generator=torch.Generator().manual_seed(0))
    found = band_quality.compare_bands(noise, real, STEMS)
    assert found["audible"]["all"] == 1
    assert found["beat"]["ratio"] < 0.6 and found["pitch"]["ratio"] < 0.4
    for name in ("onsets", "chroma"):  # noise agrees with nothing, shuffled or not
        assert found[name]["difference"]["low"] < 0.02


def test_of_accompaniments_only_the_new_stems_are_shuffled(real):
    """Guitar and piano of another song: what bass and drums agree in stays, so less is lost."""
    some = band_quality.compare_bands(real, real, STEMS, given=("bass", "drums"))
    everyone = band_quality.compare_bands(real, real, STEMS)
    assert some["onsets"]["made"] == everyone["onsets"]["made"]
    assert everyone["onsets"]["shuffled"]["mean"] < some["onsets"]["shuffled"]["mean"] < some["onsets"]["made"]["mean"]


def test_what_is_not_there_has_no_mean(real):
    silent = real.clone()
    silent[:, [0, 2, 3]] = 0
    found = band_quality.compare_bands(silent, real, STEMS)
    assert found["audible"]["bass"] == found["audible"]["all"] == 0 and found["audible"]["drums"] > 0.8
    assert found["pitch"] == {"made": None, "real": found["pitch"]["real"], "ratio": None,
                              "interval": None}
    assert found["chroma"]["made"] is None and found["onsets"]["difference"] is None
    assert math.isfinite(found["beat"]["ratio"])


@pytest.mark.parametrize("task", ["generate", "accompany"])
def test_bands_of_a_model_on_the_command_line(tiny, tmp_path, monkeypatch, task, capsys):
    entries, clip = example_clips.clips("band")[:8], example_clips.clip
    monkeypatch.setattr(example_clips, "clips", lambda kind="band": entries)
    monkeypatch.setattr(example_clips, "clip", lambda name: clip(name)[:, : 2 * 22050])
    path = str(weights.save(tiny, tmp_path / "tiny.safetensors", {}))
    out = tmp_path / f"{task}.json"
    assert main.main(["evaluate", "--task", task, "--model", path, "--n", "8", "--steps", "2", "--out", str(out)]) == 0
    assert "n = 8" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["task"] == task and found["n"] == 8 and set(found["audible"]) == {*STEMS, "all"}
    assert found["given"] == (["bass", "drums"] if task == "accompany" else [])
    assert f"--task {task}" in found["command"] and "--steps 2" in found["command"]


def test_too_few_bands(tiny, real):
    with pytest.raises(InputError, match="eight or more"):
        band_quality.compare_bands(real[:5], real, STEMS)
    for given, n, says in (((), 3, "eight are the least"), (("bass",), 1000, "the most")):
        with pytest.raises(InputError, match=says):
            band_quality.evaluate_bands("lite", n, given=given)


def test_a_stem_that_there_is_not_is_named(tiny, tmp_path):
    path = str(weights.save(tiny, tmp_path / "tiny.safetensors", {}))
    with pytest.raises(InputError, match="no stem 'flute'"):
        band_quality.evaluate_bands(path, 8, given=("flute",), progress=False)
