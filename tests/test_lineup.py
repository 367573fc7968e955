import json
from dataclasses import replace

import pytest
import torch

from msdm_lite import evaluate, lineup, metrics, weights
from msdm_lite.audio import STEMS
from msdm_lite.errors import InputError
from msdm_lite.model import build, preset
from msdm_lite.separation import separate
from tests.conftest import heard


@pytest.fixture
def told(monkeypatch, tmp_path):
    """The path of a small model that can be told the mixture; both methods take few steps, and clips are short."""
    few = {name: settings | {"steps": 2} for name, settings in lineup.METHODS.items()}
    monkeypatch.setattr(lineup, "METHODS", few)
    clip = evaluate.clip
    monkeypatch.setattr(evaluate, "clip", lambda name: clip(name)[:, :22050])
    return weights.save(heard(build(replace(preset("tiny"), task="guided"))), tmp_path / "told.safetensors", {})


def test_all_choices_of_two_players_or_more():
    some = lineup.lineups()
    assert len(some) == len(set(some)) == 6 + 4 + 1 and some[-1] == STEMS


def test_both_methods_look_for_all_stems_in_the_same_sum(told):
    model, band = weights.load(told, "cpu"), evaluate.clip("band_00")
    alone = band * torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None]
    for method, settings in lineup.METHODS.items():
        found = lineup.gains(model, [band], ("drums", "piano"), method, seed=3)["dB"]
        by_hand = metrics.si_sdr_improvement(separate(alone.sum(0), model, method, seed=3, **settings), alone)
        assert found.item() == pytest.approx(by_hand[[1, 3]].mean().item()) and by_hand[[0, 2]].isnan().all()


def test_what_it_writes_and_that_it_goes_on(told, monkeypatch, tmp_path):
    out, asked = tmp_path / "lineup.json", []
    gains = lineup.gains

    def counted(model, bands, some, method, seed):
        asked.append((some, method))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return gains(model, bands, some, method, seed)

    monkeypatch.setattr(lineup, "gains", counted)
    with pytest.raises(KeyboardInterrupt):
        lineup.main(out, str(told), 8)
    lineup.main(out, str(told), 8)
    assert len(asked) == 5 + 22 - 4 and not (tmp_path / "lineup-parts").exists()
    found = json.loads(out.read_text())
    assert list(found["lineups"]) == [", ".join(some) for some in lineup.lineups()]
    for one in [*found["lineups"].values(), *found["sizes"].values()]:
        assert one["difference"]["mean"] == pytest.approx(one["guided"]["mean"] - one["dirac"]["mean"], abs=1e-4)
        assert one["difference"]["low"] <= one["difference"]["mean"] <= one["difference"]["high"]
    assert found["sizes"]["4"] == found["lineups"][", ".join(STEMS)]
    threes = [one["guided"]["mean"] for some, one in found["lineups"].items() if some.count(",") == 2]
    assert found["sizes"]["3"]["guided"]["mean"] == pytest.approx(sum(threes) / 4, abs=1e-4)
    assert "--n 8 --seed 0" in found["command"] and found["n"] == 8


@pytest.mark.parametrize("settings, message", [({"model": "lite"}, "cannot be told"), ({"n": 0}, "one is the least"),
                                               ({"n": 25}, "there are 24")])
def test_what_it_refuses(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        lineup.main(tmp_path / "lineup.json", **settings)
    assert not list(tmp_path.iterdir())
