"""Small checkpoints of the official code."""

import zipfile

import pytest
import torch

from msdm_lite.models.unet1d import UNet1d
from tests.official import HYPER, TINY, official_state


@pytest.fixture
def net() -> UNet1d:
    """A small network of waveforms."""
    return UNet1d(TINY).eval()


@pytest.fixture
def content(net) -> dict:
    """The content of a checkpoint of it."""
    return {"epoch": 3, "hyper_parameters": dict(HYPER), "state_dict": official_state(net)}


@pytest.fixture
def save(tmp_path):
    """save(content): a checkpoint written by PyTorch."""
    def write(content):
        torch.save(content, tmp_path / "last.ckpt")
        return tmp_path / "last.ckpt"
    return write


@pytest.fixture
def pack(tmp_path):
    """pack(program): a checkpoint with this pickle."""
    def write(program: bytes, compression=zipfile.ZIP_STORED, **entries: bytes):
        with zipfile.ZipFile(tmp_path / "hand.ckpt", "w", compression) as file:
            file.writestr("archive/data.pkl", program)
            for name, data in entries.items():
                file.writestr(f"archive/data/{name}", data)
        return tmp_path / "hand.ckpt"
    return write
