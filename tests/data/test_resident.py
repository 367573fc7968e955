"""Crops cut from songs in memory are the crops that the loader reads."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdm_lite.audio.io import STEMS
from msdm_lite.data.dataset import Augmentation, Crops
from msdm_lite.data.resident import Plans, Resident
from msdm_lite.errors import InputError
from msdm_lite.training import loop
from tests.conftest import losses

T = 8192


@dataclass
class Track:
    """Four stems of tones that no two tracks share, or of one tone."""

    name: str
    sound: np.ndarray
    source: str = "test"
    split: str = "train"

    @property
    def stems(self):
        return STEMS

    @property
    def samples(self):
        return self.sound.shape[1]

    def read(self, start=0, count=None):
        count = self.samples - start if count is None else count
        found = self.sound[:, start : start + count]
        return np.pad(found, ((0, 0), (0, count - found.shape[1]))).astype(np.float32)


def tones(name, seed, length=40_000, lowest=50, highest=8000, peak=0.2):
    rng = np.random.default_rng(seed)
    time = np.arange(length) / 22050
    return Track(name, np.stack([peak * np.sin(2 * np.pi * rng.uniform(lowest, highest, (5, 1)) * time).mean(0)
                                 for _ in range(4)]))


@pytest.fixture
def songs():
    return [tones(f"song{i}", i, 30_000 + 5_000 * i) for i in range(3)]


def both(songs, count=32, **changes):
    """The same crops, as the loader reads them and as they are cut: (count, S, T) each; and by how many cents."""
    crops = Crops(songs, T, count, 5, Augmentation(**changes))
    plan = next(iter(DataLoader(Plans(crops), count)))
    cut = Resident(songs, T, changes.get("detune", 0.0), torch.device("cpu")).cut(plan)
    return torch.stack([crops[i]["stems"] for i in range(count)]), cut, plan["cents"]


@pytest.mark.parametrize("changes", [{}, {"gain_db": 3.0, "silence": 0.3}, {"remix": 1.0}])
def test_in_tune_they_are_the_same_to_the_rounding_of_16_bits(songs, changes):
    read, cut, _ = both(songs, **changes)
    assert read.shape == cut.shape and read.any()
    torch.testing.assert_close(cut, read, rtol=0, atol=2 / 32767)  # gains of 3 dB and more enlarge the rounding


@pytest.mark.parametrize("changes", [{}, {"remix": 1.0}])
def test_out_of_tune_they_sound_the_same(songs, changes):
    """Two resamplers, tones below 8 kHz: what they differ by is 50 dB below the sound, the edges apart."""
    read, cut, cents = both(songs, detune=50.0, **changes)
    assert (cents != 0).any() and (cents == 0).any()
    error = (cut - read)[..., 64:-64].square().mean((1, 2)) / read.square().mean((1, 2))
    assert error[cents != 0].max() < 1e-5 and error[cents == 0].max() < 1e-6


def test_what_would_fold_is_left_out():
    """11 kHz, played faster, is above half the rate."""
    crops = Crops([tones("high", 0, lowest=10_950, highest=11_000)], T, 40, 5, Augmentation(detune=50.0))
    plan = next(iter(DataLoader(Plans(crops), 40)))
    power = Resident(crops.tracks, T, 50.0, torch.device("cpu")).cut(plan)[..., 64:-64].square().mean((1, 2))
    fast, straight = plan["cents"] > 20, plan["cents"] == 0
    assert fast.any() and power[fast].max() < 1e-3 * power[straight].min()


def test_loud_tracks_do_not_wrap_and_short_ones_are_padded():
    loud, short = tones("loud", 1, peak=4.0), tones("short", 2, T // 2)
    assert np.abs(loud.sound).max() > 1
    for songs in ([loud], [short]):
        read, cut, _ = both(songs, 4)
        torch.testing.assert_close(cut, read, rtol=0, atol=4 / 32767)
    assert not cut[..., T // 2 :].any() and cut[..., : T // 2].any()


def test_a_device_that_is_too_small_is_said_in_one_line(songs, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(InputError, match="do not fit on cpu: train without --resident"):
        Resident(songs, T, 0.0, torch.device("cpu"))


def test_a_run_has_the_same_crops_either_way(recipe, tmp_path):
    """In tune the losses differ by the rounding of 16 bits alone."""
    recipe = replace(recipe, steps=3, detune=0.0)
    for name in ("read", "cut"):
        loop.train(recipe, tmp_path / name, progress=False, resident=name == "cut")
    a, b = losses(tmp_path / "read"), losses(tmp_path / "cut")
    assert a.keys() == b.keys() and a
    assert all(abs(a[step] - b[step]) < 2e-3 * a[step] for step in a)
