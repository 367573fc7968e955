import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from msdm_lite.data.dataset import songs_of
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models import joint
from msdm_lite.studies import training_ablations
from msdm_lite.training import loop, validation
from msdm_lite.training import recipe as training_recipe
from msdm_lite.utils.paths import data


def test_without_gains_the_wiener_gain_is_what_it_is(tiny, generator):
    """Of the network's three outputs the second has no effect any more, and the others have."""
    model = joint.Model(tiny.config, tiny.denoiser.std)
    training_ablations.without_gains(model)
    for p in model.denoiser.net.parameters():  # its last layer starts at zero
        torch.nn.init.normal_(p, std=0.1, generator=generator)
    x = 0.1 * torch.randn(1, 4, 1024, 4, generator=generator)
    out = model.denoiser.net(torch.randn(1, 10, 1024, 4, generator=generator),
                             torch.randn(1, tiny.config.embedding_width))
    assert not out[:, 4:8].any() and out[:, :4].any() and out[:, 8:].any()
    assert model.denoise(x, torch.ones(1), Conditioning.none(x)).isfinite().all()


def test_one_deviation_has_the_same_power(tiny):
    model = joint.Model(tiny.config, tiny.denoiser.std.clone())
    training_ablations.one_deviation(model)
    flat, before = model.denoiser.std, tiny.denoiser.std
    assert flat.shape == before.shape and flat.unique().numel() == 1
    assert flat.square().sum() == pytest.approx(before.square().sum().item(), rel=1e-5)


def test_the_wiener_filter_scores_one(tiny):
    """Errors are in units of what the filter leaves. A net of zeros is that filter."""
    std = tiny.denoiser.std
    model = joint.Model(tiny.config, tiny.denoiser.std)
    for p in model.denoiser.net.parameters():
        torch.nn.init.zeros_(p)
    noise = torch.randn(8, 4, 1024, 96, generator=torch.Generator().manual_seed(9))  # not the seed of the judge
    x = std[:, :, None] * noise
    found = training_ablations.score_on_crops(model, x, std)
    assert {name: value for name, value in found.items() if name.startswith("free")} == pytest.approx(
        {f"free_{level}": 1 for level in validation.Validation.LEVELS}, abs=0.01)  # ten standard errors
    assert found["si_sdr_improvement"] > 0


def test_the_record_has_every_arm():
    found = json.loads(data("results", "pairs-training.json").read_text())
    assert list(found["arms"]) == list(training_ablations.ARMS)
    for arm in found["arms"].values():
        assert all("si_sdr_improvement" in arm[kind] for kind in ("balanced", "unbalanced"))


@pytest.mark.parametrize(("of", "kinds"), [("training", {"balanced", "unbalanced"}),
                                           ("widening", {"by the program", "by people", "out of tune"})])
def test_every_arm_is_trained_and_scored_on_the_same_crops(recipe, monkeypatch, tmp_path, of, kinds):
    """Two arms of two steps on a folder of stems; what an arm says of its data reaches its run."""
    seen, learn = [], loop.train
    own = {"training": training_ablations.ARMS, "widening": training_ablations.WIDENINGS}[of]
    monkeypatch.setattr(training_ablations, "ARMS" if of == "training" else "WIDENINGS",
                        {name: own[name] for name in list(own)[:2]})
    monkeypatch.setattr(training_ablations, "crops_for_scoring", partial(training_ablations.crops_for_scoring, n=4))
    monkeypatch.setattr(training_ablations, "songs_of", lambda data, split: songs_of(recipe.data, split))

    def short(arm, folder, **how):
        seen.append(arm)
        return learn(replace(arm, data=recipe.data), folder, progress=False, **how)

    monkeypatch.setattr(loop, "train", short)
    training_ablations.main(tmp_path / "pairs.json", 2, "tiny", of=of)
    found = json.loads((tmp_path / "pairs.json").read_text())
    assert [set(arm) for arm in found["arms"].values()] == [kinds, kinds]
    assert all(np.isfinite(list(one.values())).all() for arm in found["arms"].values() for one in arm.values())
    assert [arm.data for arm in seen] == (["all", "all"] if of == "training" else ["band", "all"])
    assert seen[0].detune == (50.0 if of == "training" else 0.0) and ("--of widening" in found["command"]) == (
        of == "widening")


def test_a_widening_says_its_own_data(tmp_path):
    with pytest.raises(InputError, match="leave --data out"):
        training_ablations.main(tmp_path / "pairs.json", 2, "tiny", "band", "widening")


def test_each_widening_adds_to_the_one_before():
    recipes = [training_recipe.Recipe(preset="tiny", steps=1, **arm.recipe)
               for arm in training_ablations.WIDENINGS.values()]
    assert [r.data for r in recipes] == ["band"] + ["all"] * 4 and [r.detune for r in recipes] == [0, 0, 50, 50, 50]
    assert [r.variations for r in recipes] == [0, 0, 0, 1, 1] and [r.soundfonts for r in recipes][3:] == [False, True]
