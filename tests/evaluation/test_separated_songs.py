import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.evaluation import separated_songs


def test_segments_that_know_nothing_of_each_other(tiny):
    segment = tiny.config.frames * tiny.config.bins
    mix = 0.1 * torch.randn(2 * segment + 500)
    found = separated_songs.separate_song(mix, tiny, True, method="mixture-constrained", seed=0)
    assert found.shape == (4, 2 * segment)
    alone = separated_songs.separate_song(mix[segment : 2 * segment], tiny, False, method="mixture-constrained",
                                             seed=0)
    assert torch.allclose(found[:, segment:], alone, atol=1e-5)
    with pytest.raises(InputError, match="shorter than a segment"):
        separated_songs.separate_song(mix[:100], tiny, True)


class Song:
    """A test song of noise; reading it is counted."""

    stems = ("bass", "drums")

    def __init__(self, name, samples):
        self.name, self.samples, self.reads = name, samples, 0

    def read(self, start=0, count=None):
        self.reads += 1
        return 0.1 * torch.randn(2, self.samples, generator=torch.Generator().manual_seed(self.samples)).numpy()[
            :, start:][:, :count]


def test_batches_are_of_one_length_and_nothing_is_read_for_them():
    songs = [Song("a", 900), Song("b", 1000), Song("c", 1200), Song("d", 1300), Song("e", 800)]
    found = list(separated_songs.equal_length_batches(songs, 0.1, 10_000, 2))
    assert [[song.name for song in some] for some in found] == [["a"], ["b", "c"], ["d"], ["e"]]
    assert not any(song.reads for song in songs)


def test_songs_that_cannot_be_scored_have_a_reason_each():
    def baseline(stems):
        if stems.shape[1] == 60_000:
            raise FloatingPointError("the sampler blew up")
        return stems

    scoring = separated_songs.Scoring(None, baseline, Song.stems, 10_000, None)
    songs = [Song("good", 90_000), Song("bad", 60_000), Song("also good", 50_000)]
    silent = Song("silent", 70_000)
    silent.read = lambda start=0, count=None: torch.zeros(2, 70_000).numpy()
    lost = Song("lost", 80_000)
    lost.read = lambda start=0, count=None: (_ for _ in ()).throw(OSError("gone"))
    found = {track.name: scores for track, scores in separated_songs.each([*songs, silent, lost], scoring)}
    assert {name: str(why) for name, why in found.items() if isinstance(why, separated_songs.LeftOut)} == {
        "bad": "the sampler blew up", "silent": "it has no window in which two stems play", "lost": "gone"}
    assert [len(found[name]["published"]) for name in ("good", "also good")] == [4, 2]  # of 9 and 5 s
    assert [len(found[name]["every"]) for name in ("good", "also good")] == [3, 1]


def test_a_song_is_read_once_and_then_its_scores_are(tmp_path):
    from msdm_lite.evaluation.records import PartialResults

    scoring = separated_songs.Scoring(None, lambda stems: 0.5 * stems, Song.stems, 10_000, None)
    song = Song("a", 50_000)
    first, second = (list(separated_songs.each([song], scoring, PartialResults(tmp_path / "r.json", {})))
                     for _ in range(2))
    assert song.reads == 1 and all(torch.equal(first[0][1][key], second[0][1][key]) for key in first[0][1])
    list(separated_songs.each([Song("a", 50_001)], scoring, PartialResults(tmp_path / "r.json", {})))
    assert len(list((tmp_path / "r-parts").glob("a*.pt"))) == 2  # a song of another length is another song
