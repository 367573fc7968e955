import json

import pytest

from msdm_lite.data import example_clips
from msdm_lite.evaluation import separation_quality
from msdm_lite.models import weights
from msdm_lite.studies import sampling_ablations


@pytest.fixture
def out(tiny, tmp_path, monkeypatch):
    """Eight short clips, two arms, and how often something was separated."""
    entries, clip = example_clips.clips("band")[:8], example_clips.clip
    monkeypatch.setattr(example_clips, "clips", lambda kind="band": entries)
    monkeypatch.setattr(example_clips, "clip", lambda name: clip(name)[:, 40_000:51_000])
    monkeypatch.setattr(sampling_ablations, "SWEEPS", {("dirac", "constrained_stem"): [0, 2], ("gaussian", "c"): [1.0]})
    monkeypatch.setattr(sampling_ablations, "BASE", {name: {"steps": 2, "churn": 0.0, "corrections": 1}
                                            for name in ("dirac", "gaussian")})
    model = weights.save(tiny, tmp_path / "tiny.safetensors", {"steps": 1})
    calls = []
    real = separation_quality.evaluate_clips
    monkeypatch.setattr(separation_quality, "evaluate_clips", lambda *a, **k: calls.append(k) or real(*a, **k))
    sampling_ablations.main(tmp_path / "a.json", str(model))
    return tmp_path / "a.json", str(model), calls


def test_one_setting_is_changed_at_a_time(out):
    path, _, calls = out
    found = json.loads(path.read_text())
    assert set(found["arms"]) == {"dirac, constrained_stem 0", "dirac, constrained_stem 2", "gaussian, c 1"}
    assert [{k: v for k, v in call.items() if k in ("constrained_stem", "c")} for call in calls] == [
        {"constrained_stem": 0}, {"constrained_stem": 2}, {"c": 1.0}]
    one, other = found["arms"]["dirac, constrained_stem 0"], found["arms"]["dirac, constrained_stem 2"]
    assert one["n"] == 8 and one["mean"] != other["mean"] and set(one["stems"]) <= {"bass", "drums", "guitar", "piano"}


def test_a_stopped_run_resumes_with_the_arms_that_are_missing(out, monkeypatch, tmp_path):
    path, model, calls = out
    calls.clear()
    counted = separation_quality.evaluate_clips

    def stopped(*a, **k):
        if "c" in k:
            raise KeyboardInterrupt
        return counted(*a, **k)

    monkeypatch.setattr(separation_quality, "evaluate_clips", stopped)
    with pytest.raises(KeyboardInterrupt):
        sampling_ablations.main(tmp_path / "b.json", model)
    assert len(calls) == 2 and not (tmp_path / "b.json").exists()
    monkeypatch.setattr(separation_quality, "evaluate_clips", counted)
    sampling_ablations.main(tmp_path / "b.json", model)
    found, before = (json.loads(each.read_text()) for each in (tmp_path / "b.json", path))
    assert len(calls) == 3 and found["arms"] == before["arms"] and not (tmp_path / "b-parts").exists()


def test_an_arm_that_blows_up_is_a_finding_and_ends_nothing(out, monkeypatch, tmp_path):
    _, model, _ = out
    real = separation_quality.evaluate_clips

    def evaluated(*a, **k):
        if k.get("constrained_stem") == 0:
            raise FloatingPointError("not finite at sigma = 0.1")
        return real(*a, **k)

    monkeypatch.setattr(separation_quality, "evaluate_clips", evaluated)
    sampling_ablations.main(tmp_path / "b.json", model)
    first, *others = json.loads((tmp_path / "b.json").read_text())["arms"].values()
    assert first["mean"] is None and "sigma = 0.1" in first["blew_up"]
    assert len(others) == 2 and all(arm["mean"] is not None for arm in others)


def test_churn_is_a_share_of_the_steps():
    base = sampling_ablations.BASE["dirac"]
    assert sampling_ablations.settings("dirac", "steps", 2 * base["steps"])["churn"] == 2 * base["churn"]
    assert sampling_ablations.settings("dirac", "high", 3.0) == base | {"high": 3.0}


def test_what_is_left_as_in_the_base_is_run_once(out, monkeypatch, tmp_path):
    _, model, calls = out
    calls.clear()
    monkeypatch.setattr(sampling_ablations, "SWEEPS", {("dirac", "churn"): [0.0], ("dirac", "corrections"): [1, 2]})
    sampling_ablations.main(tmp_path / "c.json", model)
    base, again, other = json.loads((tmp_path / "c.json").read_text())["arms"].values()
    assert len(calls) == 2 and other["mean"] != base["mean"]
    assert again == base | {"setting": "corrections", "value": 1}
