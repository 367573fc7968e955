import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from msdm_lite import corpus, diffusion, train, weights
from msdm_lite.errors import InputError
from msdm_lite.train import Recipe


@pytest.fixture
def few_songs(tmp_path, monkeypatch):
    """A corpus of four short synthetic songs in a cache of its own: low tones, clicks, high tones, hiss."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    songs = [corpus.Song(f"song{i}", "band", split, f"style{i}", "MIT")
             for i, split in enumerate(["train", "train", "train", "val"])]
    for song in songs:
        song.audio().parent.mkdir(parents=True, exist_ok=True)
        clicks = 20 * (rng.random(120_000) < 0.0005)
        waves = [np.sin(0.1 * np.arange(120_000)), clicks, np.sin(0.5 * np.arange(120_000)),
                 0.4 * rng.standard_normal(120_000)]
        np.save(song.audio(), (1000 * np.stack(waves)).astype(np.int16))
    monkeypatch.setattr(corpus, "songs", lambda split=None, source=None, variations=0, balance="rms": [
        s for s in songs if split in (None, s.split)])
    monkeypatch.setattr(train, "Validation", functools.partial(train.Validation, count=4))
    monkeypatch.setattr(train, "deviations", functools.partial(train.deviations, count=20))
    return tmp_path


RECIPE = Recipe(preset="tiny", data="band", steps=6, batch=4, warmup=2)


def losses(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_learns_logs_and_ships(few_songs):
    recipe = replace(RECIPE, steps=60, lr=3e-3)
    path = train.train(recipe, few_songs / "run", progress=False)
    model = weights.load(path)
    assert model.record["steps"] == 60 and model.record["songs"] == 3 and model.record["command"].endswith("--steps 60")
    first, last = losses(few_songs / "run")[0], losses(few_songs / "run")[-1]
    assert first["step"] == 50 and np.isfinite(first["loss"])
    # clicks and hiss have one long-term spectrum: the Wiener filter cannot tell them apart, 60 steps of training can
    start = train.Model(train.preset("tiny"), model.denoiser.deviation)
    assert last["val_known_1.0"] < 0.9 * train.Validation(start, "band")(start)["known_1.0"]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(few_songs, monkeypatch):
    """Every loss after the kill is that of a run that was never stopped."""
    seen = []
    real = diffusion.loss

    def spying(*args, **kwargs):
        out = real(*args, **kwargs)
        if len(args) == 5 and torch.is_grad_enabled():
            seen.append(out.mean().item())
        return out

    monkeypatch.setattr(train.diffusion, "loss", spying)
    train.train(RECIPE, few_songs / "whole", progress=False)
    whole, seen[:] = list(seen), []

    real_update = train.AveragedModel.update_parameters

    def killed(self, model):
        real_update(self, model)
        if len(seen) == 3:
            raise KeyboardInterrupt

    # a checkpoint after every step; the third step dies before its own is written
    monkeypatch.setattr(train.AveragedModel, "update_parameters", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(RECIPE, few_songs / "cut", progress=False, checkpoint_minutes=0)
    monkeypatch.setattr(train.AveragedModel, "update_parameters", real_update)
    seen[:] = seen[:2]
    path = train.train(RECIPE, few_songs / "cut", resume=True, progress=False)
    assert seen == pytest.approx(whole, rel=1e-5)
    a = weights.load(few_songs / "whole" / "tiny.safetensors").state_dict()
    b = weights.load(path).state_dict()
    assert all(torch.allclose(a[key], b[key], atol=1e-3) for key in a)


def test_a_loss_that_is_not_finite_stops_with_the_step_named(few_songs, monkeypatch):
    monkeypatch.setattr(train.diffusion, "loss", lambda *a: torch.full((4,), torch.nan, requires_grad=True))
    with pytest.raises(FloatingPointError, match="step 0"):
        train.train(RECIPE, few_songs / "run", progress=False)


def test_recipes_that_cannot_be(few_songs):
    for wrong, says in ((replace(RECIPE, steps=None), "either --minutes or --steps"),
                        (replace(RECIPE, minutes=1.0), "either --minutes or --steps"),
                        (replace(RECIPE, preset="huge"), "no preset"), (replace(RECIPE, data="all of it"), "data is")):
        with pytest.raises(InputError, match=says):
            train.train(wrong, few_songs / "run", progress=False)
    with pytest.raises(InputError, match="no .*checkpoint.pt to resume"):
        train.train(RECIPE, few_songs / "run", resume=True, progress=False)


def test_a_run_is_not_overwritten(few_songs):
    train.train(replace(RECIPE, steps=1), few_songs / "run", progress=False)
    with pytest.raises(InputError, match="--resume"):
        train.train(RECIPE, few_songs / "run", progress=False)
    with pytest.raises(InputError, match="holds the preset tiny"):
        train.train(replace(RECIPE, preset="lite"), few_songs / "run", resume=True, progress=False)


def test_pictures_do_not_wrap(few_songs):
    """A crop's picture is a slice of its song's: what sounds at the end is not heard at the beginning."""
    model = train.Model(train.preset("tiny"))
    crop = torch.zeros(1, 4, train.crop_samples(model))
    crop[..., -model.config.bins :] = torch.randn(model.config.bins)
    assert train.pictures(model, crop)[..., :4].abs().max() < 1e-5
