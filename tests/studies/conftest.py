"""Songs for the studies of distance."""

import pytest
import torch

from msdm_lite.data import example_clips
from msdm_lite.studies import distance, sub_fad

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
