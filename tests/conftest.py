"""What all tests share: a fixed seed, and small models, songs and checkpoints that need no training."""

import json
import logging
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import soundfile
import torch

from msdm_lite.audio.sketch import GROUPS
from msdm_lite.data import example_clips
from msdm_lite.models.config import PRESETS, preset
from msdm_lite.models.joint import Model
from msdm_lite.models.sketcher import Sketcher
from msdm_lite.models.unet1d import UNet1d
from msdm_lite.models.weights import build
from msdm_lite.studies import distance, sub_fad
from msdm_lite.training import loop, validation
from msdm_lite.training.finetune import start_from
from msdm_lite.training.recipe import Recipe
from msdm_lite.utils import paths
from tests.official import HYPER, TINY, official_state

LAUNCHING = {"test_debian", "test_widgets", "test_player", "test_pages_in_browser", "test_player_in_browser",
             "test_loop", "test_repository", "test_unpickle", "test_windows", "test_state"}


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


def heard(model: Model) -> Model:
    """An untrained model with random last layers, so that the network has a say."""
    for layer in model.denoiser.net.space_to_depth.project_out:
        torch.nn.init.normal_(layer.weight, std=0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny() -> Model:
    """An untrained `tiny` model that is heard."""
    torch.manual_seed(0)
    return heard(Model(preset("tiny"), 0.01 + 0.05 * torch.rand(4, 1024)))


@pytest.fixture(scope="session")
def decoder(tiny) -> Model:
    """`tiny`, made to take sketches, with the same weights."""
    model = build(replace(tiny.config, sketch=GROUPS))
    start_from(tiny, model, Recipe(preset="tiny", steps=10**9), tiny.stems)
    return model.eval().requires_grad_(False)


@pytest.fixture
def given_conditions(monkeypatch):
    """told(model, name): what models of this kind are told under that name from now on, one entry an evaluation."""
    def listen(model, name: str) -> list:
        seen: list = []
        denoise = type(model).denoise

        def spy(self, x, sigma, conditioning=None, **pictures):
            seen.append(pictures.get(name))
            return denoise(self, x, sigma, conditioning, **pictures)

        monkeypatch.setattr(type(model), "denoise", spy)
        return seen

    return listen


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
    """Can the song's notes be read without fetching anything?"""
    return song.source == "band" or paths.cache("debian", song.source).is_dir()


# Training runs


@pytest.fixture(scope="session")
def stems(tmp_path_factory):
    """Four short songs of one's own: low tones, clicks, high tones, hiss. The first by name is for validation."""
    root = tmp_path_factory.mktemp("stems")
    rng = np.random.default_rng(0)
    for i in range(4):
        waves = {"bass": np.sin(0.1 * np.arange(120_000)), "drums": 20 * (rng.random(120_000) < 0.0005),
                 "guitar": np.sin(0.5 * np.arange(120_000)), "piano": 0.4 * rng.standard_normal(120_000)}
        (root / f"song{i}").mkdir()
        for name, samples in waves.items():
            soundfile.write(root / f"song{i}" / f"{name}.wav", 0.03 * samples, 22050, subtype="FLOAT")
    return root


@pytest.fixture
def recipe(stems, monkeypatch):
    """A short run of `tiny` on these songs, with little to validate."""
    monkeypatch.setattr(loop, "Validation", partial(validation.Validation, count=4))
    monkeypatch.setattr(loop, "standard_deviations", partial(loop.standard_deviations, count=20))
    return Recipe(preset="tiny", data=str(stems), steps=6, batch=4, warmup=2, log_every=1)


def lines(folder):
    """The log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    """By step."""
    return {line["step"]: line["loss"] for line in lines(folder) if "loss" in line}


# Checkpoints of the official code


@pytest.fixture
def net() -> UNet1d:
    """A small network of waveforms."""
    return UNet1d(TINY).eval()


@pytest.fixture
def content(net) -> dict:
    """What a checkpoint of it holds."""
    return {"epoch": 3, "hyper_parameters": dict(HYPER), "state_dict": official_state(net)}


@pytest.fixture
def save(tmp_path):
    """save(content): a checkpoint as PyTorch writes it."""
    def write(content):
        torch.save(content, tmp_path / "last.ckpt")
        return tmp_path / "last.ckpt"
    return write


@pytest.fixture
def pack(tmp_path):
    """pack(program): a checkpoint of a pickle written by hand."""
    def write(program: bytes, compression=zipfile.ZIP_STORED, **entries: bytes):
        with zipfile.ZipFile(tmp_path / "hand.ckpt", "w", compression) as file:
            file.writestr("archive/data.pkl", program)
            for name, data in entries.items():
                file.writestr(f"archive/data/{name}", data)
        return tmp_path / "hand.ckpt"
    return write


SECONDS = 3.0  # of each of the bands below
SONGS = [f"song {i}" for i in range(10)]


@pytest.fixture
def bands(monkeypatch):
    """Real crops from the shipped clips; and an embedding that needs no download: energies in twelve bands."""
    length = round(SECONDS * 22050)
    clips = [example_clips.clip(entry["name"]) for entry in example_clips.clips("band")[:10]]

    def real(data, split, n, seconds, seed=0):
        start = 0 if split == "test" else length
        crops = torch.stack([clip[:, start : start + length] for clip in clips[:n]])
        return crops, SONGS[:n], ["rock", "jazz"] * (n // 2)

    def cloud(bands, embedding):
        power = torch.fft.rfft(bands.sum(1)).abs().square()
        parts = power[:, : power.shape[1] // 12 * 12].unflatten(1, (12, -1)).mean(2)
        return parts.add(1e-6).log()[:, None]  # (n, 1, 12)

    monkeypatch.setattr(distance, "real_bands", real)
    for module in (distance, sub_fad):
        monkeypatch.setattr(module, "embed_mixtures", cloud)
    return torch.stack([clip[:, :length] for clip in clips])
