import numpy as np
import pytest

from msdm_lite.audio.io import STEMS
from msdm_lite.errors import InputError
from msdm_lite.studies import distance


def test_real_crops_have_two_players_or_more(monkeypatch):
    class Track:
        name, source, split, style, samples = "a", "band", "test", "jazz", 22050 * 20

        def __init__(self, players):
            self.players = players

        def read(self, start, count):
            wave = np.zeros((4, count), np.float32)
            wave[: self.players] = 0.1 * np.random.default_rng(start).normal(size=(self.players, count))
            return wave

    monkeypatch.setattr(distance, "songs_of", lambda data, split: [Track(2)])
    crops, songs, styles = distance.real_bands("band", "test", 3, 3.0)
    assert crops.shape == (3, len(STEMS), 3 * 22050) and styles == ["jazz"] * 3 and songs == ["a"] * 3
    monkeypatch.setattr(distance, "songs_of", lambda data, split: [Track(1)])
    with pytest.raises(InputError, match="two players"):
        distance.real_bands("band", "test", 3, 3.0)
