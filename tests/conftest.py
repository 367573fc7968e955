"""What all tests share: a fixed seed, and a small model that needs no training."""

from dataclasses import replace

import pytest
import torch

from msdm_lite.model import PRESETS, Model, build, preset
from msdm_lite.recipe import Recipe
from msdm_lite.sketch import GROUPS
from msdm_lite.sketcher import Sketcher
from msdm_lite.start import begin_with


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def heard(model: Model) -> Model:
    """An untrained model with random last layers, so that the network has a say."""
    for layer in model.denoiser.net.folding.leave:
        torch.nn.init.normal_(layer.weight, std=0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny() -> Model:
    """An untrained `tiny` model that is heard."""
    torch.manual_seed(0)
    return heard(Model(preset("tiny"), 0.01 + 0.05 * torch.rand(4, 1024)))


@pytest.fixture(scope="session")
def painter(tiny) -> Model:
    """`tiny`, made to take sketches, with the same weights."""
    model = build(replace(tiny.config, sketch=GROUPS))
    begin_with(tiny, model, Recipe(preset="tiny", steps=10**9), tiny.stems)
    return model.eval().requires_grad_(False)


@pytest.fixture
def told(monkeypatch):
    """told(model, name): what models of this kind are told under that name from now on, one entry an evaluation."""
    def listen(model, name: str) -> list:
        seen: list = []
        denoise = type(model).denoise

        def spy(self, x, sigma, known=None, **pictures):
            seen.append(pictures.get(name))
            return denoise(self, x, sigma, known, **pictures)

        monkeypatch.setattr(type(model), "denoise", spy)
        return seen

    return listen


@pytest.fixture(scope="session")
def sketcher() -> Sketcher:
    """A small untrained model of sketches."""
    torch.manual_seed(0)
    small = replace(PRESETS["lite-sketch"], widths=(16, 24, 32), blocks=(1, 1, 1), told=16)
    return build(small).eval().requires_grad_(False)
