import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from msdm_lite.data import corpus
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics, separation_quality
from msdm_lite.inference.separation import separate
from msdm_lite.models import weights
from msdm_lite.studies import real_recordings


@dataclass(frozen=True)
class Tones:
    """A song of tones, one a row, each of its own loudness."""

    name: str
    loudness: tuple[float, ...]
    source: str = ""
    split: str = "test"
    samples: int = 5 * 22050

    def read(self, start=0, count=None):
        t = np.arange(self.samples) / 22050
        hertz = np.array([55, 3000, 440, 880, 220][: len(self.loudness)])
        rows = np.array(self.loudness)[:, None] * np.sin(2 * np.pi * hertz[:, None] * t)
        return rows.astype(np.float32)[:, start : start + (count or self.samples)]


SONGS = [Tones("one", (0.1, 0.1, 0.1, 0.1)), Tones("no guitar", (0.1, 0.1, 0, 0.1)), Tones("two", (0.2, 0.1, 0.05, 0))]


def test_a_guitar_and_the_sum_of_all_others():
    stems = torch.from_numpy(SONGS[2].read())
    pair = real_recordings.two(stems)
    assert torch.equal(pair[0], stems[2]) and torch.allclose(pair.sum(0), stems.sum(0), atol=1e-6)
    assert real_recordings.two(pair) is pair  # what comes in two rows is that already


def test_songs_are_scored_in_two_rows_and_those_without_a_guitar_left_out():
    model = weights.load("tiny")
    found = real_recordings.measure(model, SONGS, 5.0, progress=False)
    assert found["n"] == 2 and list(found["songs"]) == ["one", "two"]
    assert found["model"]["guitar"]["low"] is None  # no interval of two songs
    each = []
    for song in (SONGS[0], SONGS[2]):
        true = real_recordings.two(torch.from_numpy(song.read()))
        mix, part = true.sum(0), slice(0, 4 * 22050)  # the only window of five seconds
        guitar = separate(mix, model)[2]
        each.append([metrics.si_sdr_improvement(answer[:, part], true[:, part])
                     for answer in (torch.stack([guitar, mix - guitar]), separation_quality.ideal_mask(true))])
    for n, name in enumerate(("model", "mask")):
        wanted = torch.stack([pair[n] for pair in each]).mean(0)
        assert [found[name][row]["mean"] for row in ("guitar", "rest")] == pytest.approx(wanted.tolist(), abs=1e-3)
    with pytest.raises(InputError, match="no song in which a guitar"):
        real_recordings.measure(model, SONGS[1:2], 5.0, progress=False)


def test_three_kinds_of_music_in_one_file(monkeypatch, tmp_path):
    recording = [Tones(f"played {n}", (0.1, 0.05 * n)) for n in range(1, 10)]
    monkeypatch.setattr(real_recordings, "recordings", lambda: recording)
    monkeypatch.setattr(corpus, "songs", lambda split, data: SONGS)
    real_recordings.main(tmp_path / "played.json", "tiny", 4.0, n=8)
    found = json.loads((tmp_path / "played.json").read_text())
    assert {title: music["n"] for title, music in found["music"].items()} == {
        "by the program": 2, "by people": 2, "played": 8}
    assert found["n"] == 12 and "--model tiny --seconds 4 --n 8" in found["command"]
    guitar = found["music"]["played"]["model"]["guitar"]
    assert guitar["low"] < guitar["mean"] < guitar["high"]
    with pytest.raises(InputError, match="four seconds"):
        real_recordings.main(tmp_path / "x.json", "tiny", seconds=metrics.SCORING_WINDOW - 1)
