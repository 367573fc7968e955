import pytest
import torch

from msdm_lite.evaluation import records, song_scores
from msdm_lite.evaluation.song_scores import measures, of_song, published_score

STEMS = ("bass", "piano")


def scores(published, every, active):
    return {name: torch.tensor(value, dtype=torch.float32).reshape(-1, 2)
            for name, value in (("published", published), ("every", every), ("active", active))}


def test_measures_of_two_songs_by_hand():
    """Three windows beside one: their mean is not that of the two songs."""
    nan = float("nan")
    songs = {"long": scores([[1, 10], [2, 20], [6, 60]], [[1, 10], [2, 20]], [[1, 10], [2, nan]]),
             "short": scores([[11, 30]], [[11, 30]], [[11, nan]])}
    found = measures(songs, STEMS, {"long": "jazz", "short": "pop"})
    assert (found["n"], found["windows"], found["published_windows"]) == (2, 3, 4)
    assert [found["per_window"][stem]["mean"] for stem in (*STEMS, "all")] == [5, 30, 17.5]  # 20, 120 and 140/2 over 4
    assert [found["per_song"][stem]["mean"] for stem in (*STEMS, "all")] == [6.25, 22.5, 14.375]
    assert [found["active"][stem]["mean"] for stem in (*STEMS, "all")] == [6.25, 10, (5.75 + 11) / 2]
    assert found["by_stems"] == {"1": {"mean": 11, "low": None, "high": None, "n": 1},
                                 "2": {"mean": 5.75, "low": None, "high": None, "n": 1}}
    assert {style: one["mean"] for style, one in found["by_style"].items()} == {"jazz": 5.75, "pop": 11}
    assert found["songs"]["long"] == [1.5, 10] and found["per_window"]["all"]["n"] == 2


def test_a_song_that_has_a_partial_window_alone_counts_as_published_only():
    songs = {"a": scores([[1, 1]], [[1, 1]], [[1, 1]]), "b": scores([[3, 3]], [], [])}
    found = measures(songs, STEMS, {"a": "", "b": ""})
    assert found["n"] == 1 and found["per_window"]["all"] == {"mean": 2, "low": None, "high": None, "n": 2}
    assert list(found["songs"]) == ["a"] and found["by_style"] == {}


def test_with_equally_many_windows_a_song_both_measures_are_one():
    """Their intervals too: so older records of songs of one length have the published score."""
    songs = {}
    for number in range(9):
        true = 0.1 * torch.randn(2, 6000, generator=torch.Generator().manual_seed(number))
        songs[str(number)] = of_song(true + 0.1 * torch.randn(2, 6000), true, 1000)
    found = measures(songs, STEMS, dict.fromkeys(songs, ""))
    for stem in (*STEMS, "all"):
        assert found["per_window"][stem] == pytest.approx(found["per_song"][stem], abs=1e-5)
    assert found["windows"] == found["published_windows"] == 18
    old = {key: value for key, value in found.items() if key != "per_window"} | {"settings": {"seconds": 6.0}}
    assert published_score(old) == found["per_song"] and published_score(found) == found["per_window"]
    assert published_score(old | {"windows": 17}) is None
    assert published_score(old | {"settings": {"seconds": 7.0}}) is None  # the last window would be shorter
    assert published_score(old | {"settings": {"seconds": None}}) is None


def test_records_of_the_corpus_have_the_published_score_where_all_songs_are_of_one_length():
    assert published_score(records.read("songs-band-dirac")) == records.read("songs-band-dirac")["per_song"]
    assert published_score(records.read("songs-composed-dirac")) is None  # in some songs fewer windows have two stems
    assert "per_window" in song_scores.WORDS
