import numpy as np
import pytest

from msdm_lite.inference import accompaniment
from msdm_lite.studies import sub_fad
from tests.studies.conftest import SONGS


def test_own_stems_follow_and_mismatched_stems_do_not(bands, monkeypatch, tiny):
    """The model gives back the real band: sub-FAD 0, all heard, at the level they had, in time with the others."""
    monkeypatch.setattr(accompaniment, "accompany", lambda given, model, seed, **k: bands[seed])
    found = sub_fad.all_subsets(tiny, bands, SONGS, ["rock", "jazz"] * 5, [("guitar", "piano")], progress=False)
    one = found["subsets"]["guitar, piano"]
    assert one["fad"] == pytest.approx(0, abs=1e-6) and one["behind"] == one["fad"] - one["mismatched"] < -0.01
    assert one["errors"]["behind"] > 0
    assert one["level_db"]["mean"] == pytest.approx(0, abs=1e-4) and one["heard"] == one["played"]
    assert one["onsets"]["mean"] > 0 and one["onsets"]["n"] == one["heard"]["n"] == 10
    assert {name: style["n"] for name, style in found["by_style"].items()} == {"rock": 5, "jazz": 5}
    rock = found["by_style"]["rock"]
    assert rock["onsets"]["low"] is None and rock["onsets"]["mean"] > 0  # no interval of five
    assert rock["fad"] == pytest.approx(0, abs=1e-6) and rock["mismatched"] > 0.01
    assert rock["errors"] is None and rock["level_db"]["low"] is None
    assert rock["level_db"]["mean"] == pytest.approx(0, abs=1e-4) and rock["heard"] == rock["played"]
    with_one = sub_fad.all_subsets(tiny, bands, SONGS, ["rock"] * 9 + ["jazz"], [("bass",)], progress=False)
    assert with_one["by_style"]["jazz"]["fad"] is None  # one window has no spread


def test_crops_of_one_song_count_once():
    """Songs of 8, all alike but for one with many crops; a crop without a value is left out, a song of such, too."""
    songs = np.array([f"{i}" for i in range(8)] + ["7"] * 30 + ["nothing"])
    found = sub_fad.of_songs(np.array([0.0] * 7 + [8.0] + [8.0] * 29 + [np.nan, np.nan]), songs)
    assert found["n"] == 8 and found["mean"] == pytest.approx(1.0) and found["low"] < 1 < found["high"]
