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


@pytest.fixture(scope="session")
def tiny() -> Model:
    """An untrained `tiny` model with random last layers, so that the network has a say."""
    torch.manual_seed(0)
    model = Model(preset("tiny"), 0.01 + 0.05 * torch.rand(4, 1024))
    for layer in model.denoiser.net.folding.leave:
        torch.nn.init.normal_(layer.weight, std=0.05)
    return model.eval().requires_grad_(False)
