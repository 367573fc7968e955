import json
import shlex

import pytest
import torch

from msdm_lite.cli import main
from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics, separation_quality
from msdm_lite.inference.separation import separate
from msdm_lite.models import weights


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return str(weights.save(tiny, tmp_path_factory.mktemp("model") / "tiny.safetensors", {}))


@pytest.fixture
def few(monkeypatch):
    """Eight clips, the least that an interval is given for, of a second each."""
    entries, clip = example_clips.clips("band")[:8], example_clips.clip
    monkeypatch.setattr(example_clips, "clips", lambda kind="band": entries)
    monkeypatch.setattr(example_clips, "clip", lambda name: clip(name)[:, 40_000:62_050])
    return entries


def test_a_result_says_all_that_makes_it_again(few, model, tmp_path, capsys):
    assert main.main(["evaluate", "--model", model, "--out", str(tmp_path / "first.json"), "--steps", "2"]) == 0
    assert "n = 8" in capsys.readouterr().out
    first = json.loads((tmp_path / "first.json").read_text())
    words = shlex.split(first["command"])
    assert main.main([*words[1:], "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["clips"] == first["clips"] and again["mean"] == first["mean"]
    assert first["low"] <= first["mean"] <= first["high"] and set(first["clips"]) == {e["name"] for e in few}


def test_figures_are_those_of_the_separation_itself(few, model):
    found = separation_quality.evaluate_clips("mixture-constrained", model, progress=False)
    stems = example_clips.clip(few[3]["name"])
    gain = metrics.si_sdr_improvement(separate(stems.sum(0), model), stems)
    assert found["clips"][few[3]["name"]] == pytest.approx(gain.tolist(), abs=1e-3)


def test_stems_that_are_given_are_not_scored(few, model):
    alone = separation_quality.evaluate_clips("mixture-constrained", model, progress=False)
    given_conditions = separation_quality.evaluate_clips("mixture-constrained", model, progress=False, given=["drums"])
    assert given_conditions["given"] == ["drums"] and given_conditions["command"].endswith("--given drums")
    assert "drums" not in given_conditions["stems"]
    rows = torch.tensor(list(given_conditions["clips"].values()))
    before = torch.tensor(list(alone["clips"].values()))
    assert rows[:, 1].isnan().all() and torch.equal(rows[:, [0, 2, 3]].isnan(), before[:, [0, 2, 3]].isnan())
    assert given_conditions["mean"] != alone["mean"]
    with pytest.raises(InputError, match="no stem 'flute'"):
        separation_quality.evaluate_clips("mixture-constrained", model, given=["flute"])


def test_what_suits_a_model_is_asked_if_no_method_is_named(few, model, tmp_path):
    from dataclasses import replace

    from msdm_lite.models.config import PRESETS
    from msdm_lite.models.weights import build

    assert separation_quality.evaluate_clips(None, model, progress=False)["method"] == "mixture-constrained"
    small = replace(PRESETS["lite-guided"], widths=(16, 24), blocks=(1, 1), embedding_width=16)
    path = weights.save(build(small), tmp_path / "guided.safetensors", {})
    assert separation_quality.evaluate_clips(None, str(path), steps=1, progress=False)["method"] == "guided"
    alone = weights.save(build(replace(small, task="denoise", stems=("bass",))), tmp_path / "bass.safetensors", {})
    with pytest.raises(InputError, match="is not for a model of bass"):
        separation_quality.evaluate_clips(None, str(alone))
