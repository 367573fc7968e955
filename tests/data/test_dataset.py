from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdm_lite.audio import io as audio_io
from msdm_lite.data import corpus
from msdm_lite.data.dataset import Augmentation, Crops, crops_enough, songs_of
from msdm_lite.data.example_clips import choose_window
from msdm_lite.errors import InputError
from tests.sounds import band


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """Three songs in a cache of their own: ramps that say where in the song a crop comes from."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    songs = [corpus.Song(f"song{i}", "made", "train", "x", "MIT") for i in range(3)]
    for i, song in enumerate(songs):
        song.audio().parent.mkdir(parents=True, exist_ok=True)
        ramp = np.arange(1000 * (i + 1), dtype=np.int16)
        np.save(song.audio(), np.stack([ramp + 5000 * k for k in range(4)]))
    yield songs
    corpus._stems.cache_clear()


def stems_of(crops):
    return torch.stack([crops[i]["stems"] for i in range(len(crops))])


def test_crops_are_the_same_for_any_number_of_workers(rendered):
    crops = Crops(rendered, 64, 12, seed=3)
    runs = [[batch for batch in DataLoader(crops, 4, num_workers=n)] for n in (0, 2)]
    a, b = (torch.cat([batch["stems"] for batch in run]) for run in runs)
    assert torch.equal(a, b) and a.shape == (12, 4, 64) and a.dtype == torch.float32
    assert not torch.equal(a[0], a[1])
    assert ((a * 32767).round().diff(dim=-1) == 1).all()  # whole pieces of songs, and stems stay aligned
    for batch in runs[1]:  # what it says about a crop is true
        for name, start, stems in zip(batch["name"], batch["start"], batch["stems"], strict=True):
            song = next(s for s in rendered if s.name == name)
            assert np.array_equal(song.read(int(start), 64), stems.numpy())


def test_crops_longer_than_the_song_are_padded(rendered):
    crop = Crops(rendered[:1], 1500, 1)[0]["stems"]
    assert crop.shape == (4, 1500) and not crop[:, 1000:].any() and crop[1, :1000].all()


def test_silence_and_gain_are_what_was_asked_for(rendered):
    mute = stems_of(Crops(rendered, 64, 400, augmentation=Augmentation(silence=0.25)))
    share = (mute[:, 1:].abs().amax(2) == 0).float().mean().item()
    assert abs(share - 0.25) < 0.05  # 1200 draws: standard error 0.0125
    plain, loud = (stems_of(Crops(rendered, 64, 400, augmentation=Augmentation(gain_db=g))) for g in (0.0, 3.0))
    ratio = 20 * torch.log10(loud[:, 1:, 5] / plain[:, 1:, 5])
    assert abs(ratio.std().item() - 3) < 0.25 and abs(ratio.mean().item()) < 0.35


def test_detuned_crops_are_one_tone_at_another_pitch():
    """Half the crops, up to so many cents, all stems alike, as long as the others."""

    class Tone:
        name, source, split, samples = "tone", "test", "train", 200_000
        stems = ("bass", "drums", "guitar", "piano")

        def read(self, start, count):
            wave = 0.1 * np.sin(2 * np.pi * 0.01 * np.arange(start, start + count))
            return np.tile(wave.astype(np.float32), (4, 1))

    cents = []
    for crop in stems_of(Crops([Tone()], 8192, 80, augmentation=Augmentation(detune=50.0))):
        assert crop.shape == (4, 8192) and torch.equal(crop[0], crop[3])
        assert 0.09 < crop[0, 500:-500].abs().amax() < 0.11
        spectrum = np.abs(np.fft.rfft(crop[0].double().numpy() * np.hanning(8192), 2**20))
        cents.append(1200 * np.log2(spectrum.argmax() / 2**20 / 0.01))
    moved = np.abs(cents) > 0.5  # the spectrum's grid is 0.2 cents wide here
    assert 0.3 < moved.mean() < 0.7 and 40 < np.abs(cents).max() < 51  # 80 draws: standard error 0.056
    assert min(cents) < -20 and max(cents) > 20


def test_remixed_crops_take_their_stems_from_several_songs(rendered):
    crops = stems_of(Crops(rendered, 64, 50, augmentation=Augmentation(remix=1.0)))
    places = (crops[:, :, 0] * 32767).round() - 5000 * torch.arange(4)
    assert (places.std(1) > 0).float().mean() > 0.9
    together = stems_of(Crops(rendered, 64, 50))
    assert torch.allclose((together[:, :, 0] * 32767).round() - 5000 * torch.arange(4),
                          (together[:, :1, 0] * 32767).round(), atol=1)


def test_songs_that_are_not_there(rendered):
    with pytest.raises(InputError, match="no songs"):
        Crops([], 64, 1)
    missing = corpus.Song("missing", "band", "train", "x", "MIT")
    with pytest.raises(InputError, match="not rendered"):
        Crops([missing], 64, 1)
    with pytest.raises(IndexError):
        Crops(rendered, 64, 2)[2]
    test = corpus.replace(rendered[0], split="test")
    with pytest.raises(InputError, match="test songs"):
        Crops([test], 64, 1, augmentation=Augmentation(gain_db=1.0))
    assert Crops([test], 64, 1)[0]["name"] == "song0"


def test_a_window_is_where_all_stems_sound(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    song = corpus.Song("late", "band", "test", "x", "MIT")
    song.audio().parent.mkdir(parents=True)
    stems = np.full((4, 20 * audio_io.SAMPLE_RATE), 2000, np.int16)
    stems[2, : 12 * audio_io.SAMPLE_RATE] = 0
    stems[3] = 0  # never plays: not asked of it
    np.save(song.audio(), stems)
    start = choose_window(song, 4.0)
    assert start == choose_window(song, 4.0) and start > 9 * audio_io.SAMPLE_RATE


def test_songs_are_held_out_where_none_is_for_validation(musdb, said):
    """MUSDB18-HQ has train/ and test/ only; the song held out is always the same, and named once a run."""
    stems = ("bass", "drums", "other", "vocals")
    parts = {split: [track.name for track in songs_of(str(musdb), split, stems=stems)]
             for split in ("val", "train", "test")}
    assert sorted(parts["train"] + parts["val"]) == ["Artist - Song 0", "Artist - Song 1"]
    assert len(parts["val"]) == 1 and parts["test"] == ["Artist - Song 2"]
    (line,) = said()
    assert line == (f"{musdb} has no validation songs: of its training songs one is held out (seed 0): "
                    f"{parts['val'][0]}")
    assert songs_of(str(musdb), "val", stems=stems)[0].name == parts["val"][0]


def test_a_single_song_is_validated_with_and_that_is_said(tmp_path, said):
    band(tmp_path / "songs" / "only")
    found = [[track.name for track in songs_of(str(tmp_path / "songs"), split)] for split in ("val", "train")]
    assert found == [["only"], ["only"]]
    assert said() == [f"{tmp_path / 'songs'} has a single song, which is trained on and validated with: the validation "
                      "says nothing of other songs"]
    band(tmp_path / "songs" / "other")
    assert [track.name for track in songs_of(str(tmp_path / "songs"), "train")] == ["other"] and len(said()) == 1


def test_a_folder_of_another_split_says_which(tmp_path):
    """`slakh/test`, given to train on: its songs stay test songs."""
    band(tmp_path / "test" / "song")
    assert [track.split for track in songs_of(str(tmp_path / "test"), "test")] == ["test"]
    with pytest.raises(InputError, match=r"has no songs of the split 'train': its songs are of test$"):
        songs_of(str(tmp_path / "test"), "train")


def test_stems_are_read_in_the_order_in_which_they_are_named(musdb):
    orders = ("bass", "drums", "other", "vocals"), ("vocals", "other", "bass", "drums")
    first, second = (songs_of(str(musdb), "test", stems=order)[0] for order in orders)
    assert second.stems == orders[1] and first.read(1000, 500).any(1).all()
    assert np.array_equal(second.read(1000, 500), first.read(1000, 500)[[3, 2, 0, 1]])


def test_short_songs_need_few_crops(musdb):
    tracks = songs_of(str(musdb), "train", stems=("bass", "vocals"))  # one song of ten seconds
    assert crops_enough(tracks, 50_000, 400, 4) == 18  # 4 * 220 500 / 50 000, rounded up
    assert crops_enough(tracks, 50_000, 7, 4) == 7 and crops_enough(tracks, 10**6, 400, 1) == 4
    assert crops_enough(tracks * 1000, 50_000, 400, 4) == 400


@dataclass
class Silence:
    """A silent track of some length."""

    name: str
    samples: int
    source: str = "test"
    split: str = "train"
    stems: tuple[str, ...] = ("bass", "drums")

    def read(self, start=0, count=None):
        return np.zeros((2, self.samples - start if count is None else count), np.float32)


def test_short_tracks_are_drawn_in_proportion_to_their_length():
    """Thirty loops shorter than a crop beside a song: a third of the music, and a third of the crops."""
    tracks = [Silence("song", 30_000), *(Silence(f"loop{i}", 500) for i in range(30))]
    names = [Crops(tracks, 600, 4000, seed=1).plan(i)["name"] for i in range(4000)]
    share = sum(name != "song" for name in names) / len(names)
    assert share == pytest.approx(30 * 500 / (30 * 500 + 30_000 - 600), abs=0.02)  # two standard errors and a half
    assert len(set(names)) == 31
