"""What all tests share: a fixed seed, and a small model that needs no training."""

import pytest
import torch

from msdm_lite.model import Model, preset


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
