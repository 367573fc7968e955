from dataclasses import replace

import pytest

from msdm_lite.data import corpus
from msdm_lite.data.dataset import songs_of
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.training import loop
from msdm_lite.training.recipe import Recipe
from tests.sounds import band


def test_recipes_that_cannot_be(recipe, tmp_path):
    for wrong, says in ((replace(recipe, steps=None), "either --minutes or --steps"),
                        (replace(recipe, minutes=1.0), "either --minutes or --steps"),
                        (replace(recipe, preset="huge"), "no preset"), (replace(recipe, data="all of it"), "data is"),
                        (replace(recipe, batch=0), "1 or more"), (replace(recipe, steps=0), "above 0"),
                        (replace(recipe, steps=None, minutes=-1.0), "above 0"), (replace(recipe, lr=0.0), "above 0"),
                        (replace(recipe, remix=1.5), "shares"),
                        (replace(recipe, cooldown=-0.1), "shares"), (replace(recipe, detune=-1.0), "0 or more"),
                        (replace(recipe, seed=-1), "seed must be 0 or more"),
                        (replace(recipe, shapes=(0.5, 0.5)), "four shares"),
                        (replace(recipe, shapes=(0.5, 0.5, 0.5, 0.5)), "sum to 1"),
                        (replace(recipe, preset="lite-supervised", shapes=(1.0, 0.0, 0.0, 0.0)), "is fixed"),
                        (replace(recipe, variations=1), "of the corpus"),
                        (replace(recipe, balance="loudness"), "of the corpus")):
        with pytest.raises(InputError, match=says):
            loop.train(wrong, tmp_path / "run", progress=False)
    with pytest.raises(InputError, match=r"no .*checkpoint\.pt to resume"):
        loop.train(recipe, tmp_path / "run", resume=True, progress=False)
    with pytest.raises(InputError, match="checkpoint-minutes"):
        loop.train(recipe, tmp_path / "run", checkpoint_minutes=float("nan"), progress=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file, not a folder"):
        loop.train(recipe, tmp_path / "file", progress=False)


def test_a_single_stem_says_where_it_departs_from_the_official_models(recipe, tmp_path, said, caplog):
    model = weights.build(preset("tiny-wave", ("drums",)))
    for change, processes, want in (
            ({}, 1, ["learning rate 0.0001, theirs 1e-05; crops in a step 8, theirs 16"]),
            ({"lr": 1e-5}, 1, ["crops in a step 8, theirs 16"]), ({"lr": 1e-5, "batch": 16}, 1, []),
            ({"batch": 2, "accumulate": 4}, 2, ["learning rate 0.0001, theirs 1e-05"])):
        Recipe(steps=1, **change).warn_of_single_stem(model, processes)
        before = "a model of drums alone, not trained as the official single-source models: "
        assert [line.removeprefix(before) for line in said()] == want
        caplog.clear()
    for other in (preset("tiny"), preset("lite-mix")):  # of several stems, and of their sum
        Recipe(steps=1).warn_of_single_stem(weights.build(other))
    assert not said()
    loop.train(replace(recipe, preset="tiny", stems=("bass",), steps=1), tmp_path / "run", progress=False)
    assert [line for line in said() if "a model of bass alone" in line and "theirs 1e-05" in line]


def test_a_record_says_the_command_that_makes_it_again():
    recipe = Recipe(preset="tiny", gain_db=0.0, transpose=False, variations=2, minutes=75.0)
    assert recipe.command() == ("msdm-lite train --preset tiny --data all --gain-db 0 --variations 2 --no-transpose "
                                "--minutes 75")


def test_the_rate_warms_up_stays_and_falls():
    recipe = Recipe(lr=1.0, warmup=10, cooldown=0.25)
    assert [recipe.rate(step, 0.0) for step in (0, 4, 9, 500)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert [recipe.rate(99, done) for done in (0.5, 0.75, 0.875, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.01])


def test_songs_of_the_corpus(monkeypatch):
    asked = []
    monkeypatch.setattr(corpus, "songs", lambda *args, **switches: asked.append((*args, switches)))
    songs_of("all", "train", 2, "loudness", transpose=False)
    assert asked == [("train", None, 2, "loudness", {"transpose": False})]


def test_a_folder_without_splits_gives_all_of_it_for_a_test_and_says_so(tmp_path, said):
    for n in range(12):
        band(tmp_path / f"song{n:02d}")
    found = {split: {track.name for track in songs_of(str(tmp_path), split)} for split in ("train", "val")}
    assert len(found["val"]) == 1 and len(found["train"]) == 11 and not found["val"] & found["train"]
    assert not said()
    assert {track.name for track in songs_of(str(tmp_path), "test")} == found["val"] | found["train"]
    assert "names no test songs" in said()[0]
