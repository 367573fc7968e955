import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from msdm_lite.data import example_clips
from msdm_lite.errors import InputError, MachineError
from msdm_lite.evaluation import musicnn
from msdm_lite.utils import paths
from msdm_lite.utils.imports import library

VECTORS = Path(__file__).parents[1] / "musicnn.json"  # made once by the original, in TensorFlow


@pytest.fixture(scope="module")
def wheel():
    try:
        return musicnn.wheel()
    except MachineError as problem:
        pytest.skip(str(problem))


def test_the_port_says_what_the_original_said(wheel):
    """The first three seconds of two shipped clips, heard by the original in TensorFlow.

    To a thousandth: its spectrograms are in half precision. (Of further windows it repeats the first.)
    """
    made = json.loads(VECTORS.read_text())
    for name, one in made["clips"].items():
        wave = example_clips.clip(name).sum(0)[None]
        hidden, exact = musicnn.embed(wave)[0], torch.tensor(one["hidden"])
        assert hidden.shape == (2, 200)
        assert (hidden[0] - exact).abs().max() < 1e-3 * exact.abs().max()
        assert (hidden[1] - exact).abs().max() > 0.1 * exact.abs().max()  # another window, another sound


def test_embeddings_hear_what_is_played(wheel):
    """Two halves of one clip are nearer to each other than to noise of the same level."""
    clip = example_clips.clip("band_00").sum(0)
    noise = clip.square().mean().sqrt() * torch.randn(len(clip), generator=torch.Generator().manual_seed(0))
    (first, second), (other, _) = musicnn.embed(torch.stack([clip, noise]))
    assert (first - second).norm() < 0.7 * (first - other).norm()


def test_sounds_that_are_too_short(wheel):
    with pytest.raises(InputError, match="three seconds"):
        musicnn.embed(torch.zeros(2, 22050))


def test_a_wheel_that_is_another_or_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    path = paths.cache("musicnn", musicnn.WHEEL)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="is not the wheel"):
        musicnn.wheel()
    monkeypatch.setattr(musicnn, "SHA256", hashlib.sha256(b"something else").hexdigest())
    assert musicnn.wheel() == path
    path.unlink()
    monkeypatch.setattr(musicnn.sys, "executable", shutil.which("false"))
    with pytest.raises(MachineError, match="pip cannot get it: pip said nothing"):
        musicnn.wheel()
    with pytest.raises(MachineError, match="this needs nowhere: pip install nowhere"):
        library("nowhere.at_all")
