import json
import shlex

import pytest
import torch

from msdm_lite import cli, evaluate, metrics, weights
from msdm_lite.errors import InputError
from msdm_lite.separation import separate


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return str(weights.save(tiny, tmp_path_factory.mktemp("model") / "tiny.safetensors", {}))


@pytest.fixture
def few(monkeypatch):
    """Eight clips, the least that an interval is given for, of a second each."""
    entries, clip = evaluate.clips("band")[:8], evaluate.clip
    monkeypatch.setattr(evaluate, "clips", lambda kind="band": entries)
    monkeypatch.setattr(evaluate, "clip", lambda name: clip(name)[:, 40_000:62_050])
    return entries


def test_a_result_says_all_that_makes_it_again(few, model, tmp_path, capsys):
    assert cli.main(["evaluate", "--model", model, "--out", str(tmp_path / "first.json"), "--steps", "2"]) == 0
    assert "n = 8" in capsys.readouterr().out
    first = json.loads((tmp_path / "first.json").read_text())
    words = shlex.split(first["command"])
    assert cli.main([*words[1:], "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["clips"] == first["clips"] and again["mean"] == first["mean"]
    assert first["low"] <= first["mean"] <= first["high"] and set(first["clips"]) == {e["name"] for e in few}


def test_figures_are_those_of_the_separation_itself(few, model):
    found = evaluate.evaluate("mixture-known", model, progress=False)
    stems = evaluate.clip(few[3]["name"])
    gain = metrics.si_sdr_improvement(separate(stems.sum(0), model), stems)
    assert found["clips"][few[3]["name"]] == pytest.approx(gain.tolist(), abs=1e-3)


def test_stems_that_are_given_are_not_scored(few, model):
    alone = evaluate.evaluate("mixture-known", model, progress=False)
    told = evaluate.evaluate("mixture-known", model, progress=False, given=["drums"])
    assert told["given"] == ["drums"] and told["command"].endswith("--given drums") and "drums" not in told["stems"]
    rows = torch.tensor(list(told["clips"].values()))
    before = torch.tensor(list(alone["clips"].values()))
    assert rows[:, 1].isnan().all() and torch.equal(rows[:, [0, 2, 3]].isnan(), before[:, [0, 2, 3]].isnan())
    assert told["mean"] != alone["mean"]
    with pytest.raises(InputError, match="no stem 'flute'"):
        evaluate.evaluate("mixture-known", model, given=["flute"])


def test_what_suits_a_model_is_asked_if_no_method_is_named(few, model, tmp_path):
    from dataclasses import replace

    from msdm_lite.model import PRESETS, build

    assert evaluate.evaluate(None, model, progress=False)["method"] == "mixture-known"
    small = replace(PRESETS["lite-guided"], widths=(16, 24), blocks=(1, 1), told=16)
    path = weights.save(build(small), tmp_path / "guided.safetensors", {})
    assert evaluate.evaluate(None, str(path), steps=1, progress=False)["method"] == "guided"
    alone = weights.save(build(replace(small, task="denoise", stems=("bass",))), tmp_path / "bass.safetensors", {})
    with pytest.raises(InputError, match="is not for a model of bass"):
        evaluate.evaluate(None, str(alone))
