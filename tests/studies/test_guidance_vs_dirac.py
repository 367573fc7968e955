import json
from dataclasses import replace

import pytest
import torch

from msdm_lite.audio.io import STEMS
from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
from msdm_lite.inference.separation import separate
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.weights import build
from msdm_lite.studies import guidance_vs_dirac
from tests.conftest import with_effect


@pytest.fixture
def guided_model(monkeypatch, tmp_path):
    """The path of a small model conditioned on the mixture; both methods take few steps, and clips are short."""
    few = {name: settings | {"steps": 2} for name, settings in guidance_vs_dirac.METHODS.items()}
    monkeypatch.setattr(guidance_vs_dirac, "METHODS", few)
    clip = example_clips.clip
    monkeypatch.setattr(example_clips, "clip", lambda name: clip(name)[:, :22050])
    return weights.save(with_effect(build(replace(preset("tiny"), task="guided"))), tmp_path / "guided.safetensors", {})


def test_both_methods_look_for_all_stems_in_the_same_sum(guided_model):
    model, band = weights.load(guided_model, "cpu"), example_clips.clip("band_00")
    alone = band * torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None]
    for method, settings in guidance_vs_dirac.METHODS.items():
        found = guidance_vs_dirac.gains(model, [band], ("drums", "piano"), method, seed=3)["dB"]
        by_hand = metrics.si_sdr_improvement(separate(alone.sum(0), model, method, seed=3, **settings), alone)
        assert found.item() == pytest.approx(by_hand[[1, 3]].mean().item()) and by_hand[[0, 2]].isnan().all()


def test_what_it_writes_and_that_it_goes_on(guided_model, monkeypatch, tmp_path):
    out, asked = tmp_path / "lineup.json", []
    gains = guidance_vs_dirac.gains

    def counted(model, bands, some, method, seed):
        asked.append((some, method))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return gains(model, bands, some, method, seed)

    monkeypatch.setattr(guidance_vs_dirac, "gains", counted)
    with pytest.raises(KeyboardInterrupt):
        guidance_vs_dirac.main(out, str(guided_model), 8)
    guidance_vs_dirac.main(out, str(guided_model), 8)
    assert len(asked) == 5 + 22 - 4 and not (tmp_path / "lineup-parts").exists()
    found = json.loads(out.read_text())
    assert list(found["lineups"]) == [", ".join(some) for some in guidance_vs_dirac.lineups()]
    for one in [*found["lineups"].values(), *found["sizes"].values()]:
        assert one["difference"]["mean"] == pytest.approx(one["guided"]["mean"] - one["dirac"]["mean"], abs=1e-4)
        assert one["difference"]["low"] <= one["difference"]["mean"] <= one["difference"]["high"]
    assert found["sizes"]["4"] == found["lineups"][", ".join(STEMS)]
    threes = [one["guided"]["mean"] for some, one in found["lineups"].items() if some.count(",") == 2]
    assert found["sizes"]["3"]["guided"]["mean"] == pytest.approx(sum(threes) / 4, abs=1e-4)
    assert "--n 8 --seed 0" in found["command"] and found["n"] == 8


@pytest.mark.parametrize("settings, message",
                         [({"model": "lite"}, "cannot be conditioned"), ({"n": 0}, "one is the least"),
                                               ({"n": 25}, "there are 24")])
def test_what_it_refuses(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        guidance_vs_dirac.main(tmp_path / "lineup.json", **settings)
    assert not list(tmp_path.iterdir())
