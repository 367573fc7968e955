"""Fixtures of several folders of tests: a fixed seed, small untrained models, and songs for short training runs."""

import json
import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import soundfile
import torch

from msdm_lite.audio.sketch import GROUPS
from msdm_lite.models.config import PRESETS, preset
from msdm_lite.models.joint import Model
from msdm_lite.models.sketcher import Sketcher
from msdm_lite.models.weights import build
from msdm_lite.training import loop, statistics, validation
from msdm_lite.training.finetune import start_from
from msdm_lite.training.recipe import Recipe
from msdm_lite.utils import paths

LAUNCHING = {"test_address", "test_debian", "test_widgets", "test_player", "test_pages_in_browser",
             "test_player_in_browser", "test_loop", "test_device", "test_repository", "test_unpickle", "test_windows",
             "test_state"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that start processes run one after another, in one worker."""
    for item in items:
        if item.path.stem in LAUNCHING:
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def with_effect(model: Model) -> Model:
    """An untrained model with random last layers, so that the output of the network is not zero."""
    for layer in model.denoiser.net.space_to_depth.project_out:
        torch.nn.init.normal_(layer.weight, std=0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny() -> Model:
    """An untrained `tiny` model whose network has an effect."""
    torch.manual_seed(0)
    return with_effect(Model(preset("tiny"), 0.01 + 0.05 * torch.rand(4, 1024)))


@pytest.fixture(scope="session")
def decoder(tiny) -> Model:
    """`tiny` with the same weights, and conditioning on sketches."""
    model = build(replace(tiny.config, sketch=GROUPS))
    start_from(tiny, model, Recipe(preset="tiny", steps=10**9), tiny.stems)
    return model.eval().requires_grad_(False)


@pytest.fixture
def conditions_of(monkeypatch):
    """conditions_of(model, name): the conditions of that name of such a model, one for each evaluation."""
    def record(model, name: str) -> list:
        seen: list = []
        denoise = type(model).denoise

        def spy(self, x, sigma, conditioning=None):
            seen.append(None if conditioning is None else conditioning.given(name))
            return denoise(self, x, sigma, conditioning)

        monkeypatch.setattr(type(model), "denoise", spy)
        return seen

    return record


@pytest.fixture(scope="session")
def sketcher() -> Sketcher:
    """A small untrained model of sketches."""
    torch.manual_seed(0)
    small = replace(PRESETS["lite-sketch"], widths=(16, 24, 32), blocks=(1, 1, 1), embedding_width=16)
    return build(small).eval().requires_grad_(False)


@pytest.fixture
def said(caplog):
    """said(): the warnings of the package until now."""
    caplog.set_level(logging.WARNING, "msdm_lite")
    return lambda: [record.getMessage() for record in caplog.records]


def here(song):
    """Whether the song's notes can be read without a download."""
    return song.source == "band" or paths.cache("debian", song.source).is_dir()


# Training runs


@pytest.fixture(scope="session")
def stems(tmp_path_factory):
    """Four short songs of a user: low tones, clicks, high tones, noise. The first by name is for validation."""
    root = tmp_path_factory.mktemp("stems")
    rng = np.random.default_rng(0)
    for i in range(4):
        waves = {"bass": np.sin(0.1 * np.arange(120_000)), "drums": 20 * (rng.random(120_000) < 0.0005),
                 "guitar": np.sin(0.5 * np.arange(120_000)), "piano": 0.4 * rng.standard_normal(120_000)}
        (root / f"song{i}").mkdir()
        for name, samples in waves.items():
            soundfile.write(root / f"song{i}" / f"{name}.wav", 0.03 * samples, 22050, subtype="FLOAT")
    return root


@pytest.fixture(scope="session")
def musdb(tmp_path_factory):
    """A folder like MUSDB18-HQ: train/ and test/, no validation; stereo at 44.1 kHz, four stems and their mixture.

    Two songs for training and one for the test, of ten seconds: low tones, clicks, noise, and tones that glide.
    """
    root = tmp_path_factory.mktemp("data") / "musdb18hq"
    rng, time = np.random.default_rng(0), np.arange(441_000) / 44_100
    for number, split in enumerate(("train", "train", "test")):
        glide = 300 + 40 * number + 60 * np.sin(2 * np.pi * 0.7 * time)
        waves = {"bass": np.sin(2 * np.pi * (60 + 7 * number) * time),
                 "drums": 20 * (rng.random(len(time)) < 0.0003), "other": 0.4 * rng.standard_normal(len(time)),
                 "vocals": np.sin(2 * np.pi * np.cumsum(glide) / 44_100)}
        waves = {name: 0.03 * np.stack([wave, 0.8 * wave], 1) for name, wave in waves.items()}
        folder = root / split / f"Artist - Song {number}"
        folder.mkdir(parents=True)
        for name, wave in {**waves, "mixture": sum(waves.values())}.items():
            soundfile.write(folder / f"{name}.wav", wave, 44_100, subtype="PCM_16")
    return root


@pytest.fixture
def recipe(stems, monkeypatch):
    """A short run of `tiny` on these songs, with little to validate."""
    monkeypatch.setattr(loop, "Validation",
                        lambda model, songs, count, gain: validation.Validation(model, songs, 1, gain))
    for measured in ("fit_standard_deviations", "levels"):
        monkeypatch.setattr(statistics, measured, partial(getattr(statistics, measured), count=20))
    return Recipe(preset="tiny", data=str(stems), steps=6, batch=4, warmup=2, log_every=1)


def lines(folder):
    """The log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    """By step."""
    return {line["step"]: line["loss"] for line in lines(folder) if "loss" in line}
