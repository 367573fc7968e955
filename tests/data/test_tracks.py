"""One song of sound files: any piece of it, and files that break after they were found."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import readers
from msdm_lite.data import tracks as data_tracks
from msdm_lite.data.dataset import Crops
from msdm_lite.errors import InputError
from tests.sounds import band, rng, sound

SHAPES = [(22050, 1), (44100, 2), (48000, 2), (16000, 1), (8000, 1), (11025, 1), (96000, 1), (44099, 1)]
ANY = [(rate, channels, ending) for rate, channels in SHAPES for ending in (".wav", ".flac")]


@pytest.mark.parametrize("rate, channels, ending", [*ANY, (44100, 2, ".ogg"), (22050, 1, ".mp3"), (48000, 1, ".mp3")])
def test_any_piece_is_that_piece_of_the_whole(tmp_path, rate, channels, ending):
    path = sound(tmp_path / "s" / f"bass{ending}", 3.0007, rate, channels)
    (track,) = readers.find(tmp_path)
    whole, size = track.read()[0], track.samples
    at_once = audio_io.load(path).numpy()
    assert size == len(whole) == round(soundfile.info(path).frames * SAMPLE_RATE / rate)
    assert np.abs(whole[: len(at_once)] - at_once[:size]).max() < 1e-6
    places = [(0, 1000), (1, 1), (7, 22050), (12345, 4444), (size - 9000, 300), (size - 500, 500), (size - 1, 1),
              *((int(start), 700) for start in rng(size).integers(0, size - 700, 20))]
    for start, count in places:
        assert np.abs(track.read(start, count)[0] - whole[start : start + count]).max() < 1e-4, (start, count)
    past = track.read(size - 100, 300)
    assert past.shape == (4, 300) and not past[:, 100:].any() and np.abs(past[0, :100] - whole[-100:]).max() < 1e-4


def test_what_a_read_gives_at_the_edges(tmp_path):
    band(tmp_path / "s")
    (track,) = readers.find(tmp_path)
    assert track.read(4000).shape == (4, 410) and track.read(10, 0).shape == (4, 0)
    assert track.read(9999).shape == (4, 0) and not track.read(9999, 5).any()
    for start, count in ((-1, 5), (0, -1)):
        with pytest.raises(InputError, match="below zero"):
            track.read(start, count)


def test_only_the_part_that_is_needed_is_read(tmp_path, monkeypatch):
    sound(tmp_path / "s" / "bass.flac", 10, 44100)
    (track,) = readers.find(tmp_path)
    asked, read = [], soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n=-1, **k: asked.append(n) or read(self, n, **k))
    track.read(100000, 2205)
    assert len(asked) == 1 and 4410 <= asked[0] < 10000


def test_two_channels_are_mixed_by_their_mean(tmp_path):
    (tmp_path / "s").mkdir()
    soundfile.write(tmp_path / "s" / "bass.wav", np.tile([[0.5, -0.1]], (1000, 1)), SAMPLE_RATE, subtype="FLOAT")
    assert readers.find(tmp_path)[0].read()[0] == pytest.approx(np.full(1000, 0.2))


@pytest.mark.parametrize("apart, warned", [(0.05, False), (0.5, True)])
def test_unequal_lengths_are_padded(tmp_path, said, apart, warned):
    sound(tmp_path / "lopsided" / "bass.wav", 0.3, 44100)
    sound(tmp_path / "lopsided" / "drums.wav", 0.3 + apart, value=0.2)
    sound(tmp_path / "lopsided" / "piano.wav", 0.3)
    (track,) = readers.find(tmp_path)
    assert track.samples == round((0.3 + apart) * SAMPLE_RATE)
    assert not track.read()[0, 6615:].any() and track.read()[1, -1] == pytest.approx(0.2)
    assert [bool(re.search(r"lopsided differ in length by 0\.5 s", line)) for line in said()] == [True] * warned


def test_samples_that_are_no_numbers_are_zero_and_said_once(tmp_path, said):
    wave = np.full(1000, 0.5)
    wave[10:13] = np.nan, np.inf, -np.inf
    (tmp_path / "s").mkdir()
    soundfile.write(tmp_path / "s" / "bass.wav", wave, SAMPLE_RATE, subtype="FLOAT")
    (track,) = readers.find(tmp_path)
    for _ in range(2):
        assert track.read()[0, 9:14].tolist() == [0.5, 0, 0, 0, 0.5]
    assert len(said()) == 1 and "bass.wav" in said()[0]


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_pickled_and_read_by_workers(tmp_path, ending):
    for name in "ab":
        for stem in STEMS:
            sound(tmp_path / name / f"{stem}{ending}", 0.6, 44100)
    tracks = readers.find(tmp_path)
    again = pickle.loads(pickle.dumps(tracks))
    assert again == tracks and len(set(again)) == 2 and np.array_equal(again[0].read(), tracks[0].read())
    tracks[0].read(0, 100)  # before the fork
    crops = Crops(tracks, 2048, 6, seed=1)
    one, two = (torch.cat([b["stems"] for b in DataLoader(crops, 2, num_workers=n)]) for n in (0, 2))
    assert torch.equal(one, two) and one.shape == (6, 4, 2048) and one.abs().max() > 0.1


def test_lengths_are_looked_up_once_and_no_file_stays_open(tmp_path, monkeypatch):
    band(tmp_path / "s")
    (track,) = readers.find(tmp_path)
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    monkeypatch.setattr(data_tracks, "_length", None)
    assert track.samples == pickle.loads(pickle.dumps(track)).samples == 4410
    track.read()
    assert not before or len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
def test_a_file_cut_short_is_as_long_as_what_decodes(tmp_path, said, ending):
    """Also if it is cut after the scan: what is there is read, with one warning, and silence follows."""
    path = sound(tmp_path / "s" / f"bass{ending}", 5)
    (whole,) = readers.find(tmp_path)
    right = whole.read()[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    (track,) = readers.find(tmp_path)
    assert 0.4 * len(right) < track.samples < 0.7 * len(right) and len(said()) == 1
    assert track.samples == data_tracks.decode.extent(path).frames
    end = track.samples - 500
    for start, count in ((0, 3000), (12345, 700), (end - 700, 700)):
        assert np.abs(track.read(start, count)[0] - right[start : start + count]).max() < 1e-4
    later = whole.read()[0]  # found when it was whole
    assert np.abs(later[:end] - right[:end]).max() < 1e-4 and not later[track.samples :].any() and len(said()) == 1


@pytest.mark.parametrize("count", [None, 0, 20, 10**6])
def test_training_hears_an_mp3_to_its_real_end(tmp_path, count):
    """Its count of frames left out, or wrong: the crops are of the whole sound, wherever it is louder."""
    path = tmp_path / "s" / "bass.mp3"
    path.parent.mkdir()
    t = np.arange(10 * 44100) / 44100
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * t) * (t > 6) + 1e-4 * np.sin(t), 44100, format="MP3",
                    subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.4)
    right = readers.find(tmp_path)[0].read()[0]
    data = path.read_bytes()
    at = max(data[:2000].find(b"Xing"), data[:2000].find(b"Info"))
    second = data.find(data[:2], 200)
    path.write_bytes(data[second:] if count is None else data[: at + 8] + count.to_bytes(4, "big") + data[at + 12 :])
    (track,) = readers.find(tmp_path)
    assert 0 <= track.samples - len(right) < 3 * 1152
    crops = Crops([track], 22050, 400, seed=0)
    starts = [crops.plan(i)["start"] for i in range(len(crops))]
    assert max(starts) > 8.5 * SAMPLE_RATE
    assert np.abs(track.read(7 * SAMPLE_RATE, 22050)[0]).max() == pytest.approx(0.3, rel=0.05)


def test_sides_that_cancel_are_said_once(tmp_path, said):
    (tmp_path / "s").mkdir()
    wave = rng(1).uniform(-0.5, 0.5, 50000)
    soundfile.write(tmp_path / "s" / "bass.wav", np.stack([wave, -wave], 1), SAMPLE_RATE, subtype="FLOAT")
    (track,) = readers.find(tmp_path)
    for _ in range(2):
        assert not track.read(0, 40000).any()
    assert len(said()) == 1 and "cancel" in said()[0]


def test_fewer_samples_than_were_promised(tmp_path, monkeypatch):
    sound(tmp_path / "s" / "bass.wav")
    (track,) = readers.find(tmp_path)
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n=-1, **kind: read(self, n - (n > 1), **kind))
    with pytest.raises(InputError, match=r"bass\.wav is damaged"):
        track.read()


def test_a_file_that_goes_away_or_changes_later(tmp_path):
    path = sound(tmp_path / "s" / "bass.ogg", 0.5, value=0.1)
    assert readers.find(tmp_path)[0].read()[0, 5000] == pytest.approx(0.1, abs=0.02)
    sound(path, 1.0, value=0.4)
    os.utime(path, (1, 1))
    (track,) = readers.find(tmp_path)
    assert track.samples == SAMPLE_RATE and track.read()[0, 5000] == pytest.approx(0.4, abs=0.02)
    path.unlink()
    with pytest.raises(InputError, match=r"bass\.ogg: no such file"):
        track.read(0, 100)
