"""The click: against pretty_midi's beats, and against what is heard in a crop."""

import mido
import numpy as np
import pretty_midi
import pytest
import torch

from msdm_lite.audio import beats as audio_beats
from msdm_lite.audio.io import STEMS
from msdm_lite.data import corpus, midi
from msdm_lite.data.dataset import Augmentation, Crops
from msdm_lite.errors import InputError

HOP = 512  # samples; not that of any model


def written(path, *changes) -> mido.MidiFile:
    """A song of one note, eight minutes long at most, with (ticks, message) on the way."""
    song = mido.MidiFile(ticks_per_beat=96)
    track = mido.MidiTrack([mido.MetaMessage("time_signature", numerator=4, denominator=4, time=0)])
    now = 0
    for at, message in changes:
        track.append(message.copy(time=at - now))
        now = at
    track += [mido.Message("note_on", note=60, velocity=64, time=0), mido.Message("note_off", note=60, time=96 * 64)]
    song.tracks.append(track)
    song.save(path)
    return mido.MidiFile(path)


def turns(rows: np.ndarray) -> np.ndarray:
    """Place in the beat, or the bar, from sine and cosine (2, L): -0.5 to 0.5, 0 on the beat."""
    return np.arctan2(*rows) / (2 * np.pi)


CHANGES = (
    (0, mido.MetaMessage("set_tempo", tempo=600000)), (96 * 8, mido.MetaMessage("set_tempo", tempo=431000)),
    (96 * 16, mido.MetaMessage("time_signature", numerator=3, denominator=4)),
    (96 * 28, mido.MetaMessage("set_tempo", tempo=900000)))


def test_beats_and_bars_are_where_pretty_midi_finds_them(tmp_path):
    """Tempo and metre change on the way; its beats and downbeats are our zeros, to a thousandth of a beat."""
    grid = audio_beats.grid(written(tmp_path / "song.mid", *CHANGES))
    other = pretty_midi.PrettyMIDI(str(tmp_path / "song.mid"))
    beats, bars = other.get_beats(), other.get_downbeats()
    assert len(beats) > 80 and len(bars) > 20
    assert np.abs(turns(audio_beats.phases(grid, beats)[:2])).max() < 1e-3
    assert np.abs(turns(audio_beats.phases(grid, bars)[2:])).max() < 1e-3
    between = audio_beats.phases(grid, (beats[:-1] + beats[1:]) / 2)  # and nowhere else
    assert np.abs(turns(between[:2])).min() > 0.49


def test_the_last_tempo_goes_on_after_the_end(tmp_path):
    grid = audio_beats.grid(written(tmp_path / "song.mid"))
    assert np.abs(turns(audio_beats.phases(grid, np.array([1000.0, 1000.5]))[:2])).max() < 1e-3  # 120 beats a minute
    assert np.abs(turns(audio_beats.phases(grid, np.array([1000.25]))[:2])).min() > 0.49


def test_steady_beats_are_those_of_a_song_of_one_tempo(tmp_path):
    song = written(tmp_path / "song.mid", (0, mido.MetaMessage("set_tempo", tempo=500000)),
                   (0, mido.MetaMessage("time_signature", numerator=3, denominator=4)))
    want = audio_beats.phases(audio_beats.grid(song), np.arange(40) * 0.05)
    got = audio_beats.steady(45, 0.05, 120, metre=3, start=0.25)[:, 5:]  # the first beat is at the sixth frame
    torch.testing.assert_close(got, torch.from_numpy(want), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tempo, metre", [(0, 4), (1000, 4), (float("nan"), 4), (120, 0)])
def test_beats_out_of_range_are_refused(tempo, metre):
    with pytest.raises(InputError, match="beats a minute"):
        audio_beats.steady(10, 0.05, tempo, metre)


def test_every_band_song_counts_at_its_tempo():
    """The table's tempo and the MIDI's: a whole beat later, at the same place in the beat."""
    rows = [row for row in corpus.table("band")][::50]
    for row in rows:
        song = next(song for song in corpus.songs(source="band") if song.name == row["name"])
        seconds = np.arange(20.0) + 0.123
        later = seconds + 60 / float(row["tempo"])
        np.testing.assert_allclose(song.beat_phase(seconds)[:2], song.beat_phase(later)[:2], atol=0.02)


class Metronome:
    """A track whose stems are one sample of 1 at every beat, 100 a minute, four to a bar."""

    name, source, split, samples = "metronome", "test", "train", 22050 * 60
    stems = STEMS

    def read(self, start=0, count=None):
        where = np.arange(start, start + (count or self.samples))
        beat = where % 13230 == 0
        return np.broadcast_to(beat.astype(np.float32), (4, len(where))).copy()

    def beat_phase(self, seconds):
        return audio_beats.phases(np.array([[0, 0, 0], [600, 1000, 250]]), seconds)


@pytest.mark.parametrize("detune", [0.0, 100.0])
def test_onsets_are_on_the_beat(detune):
    """Also when the tape runs fast or slow; to one place of the click, a twelfth of a beat."""
    crops = Crops([Metronome()], 256 * HOP, 12, augmentation=Augmentation(detune=detune), beat_hop=HOP)
    changed = 0
    for i in range(len(crops)):
        item = crops[i]
        assert item["beat_phase"].shape == (4, 256)
        onsets = np.flatnonzero(item["stems"][0].numpy() > 0.3)
        onsets = onsets[(onsets > HOP) & (onsets < 254 * HOP)]
        at = np.interp(onsets / HOP, np.arange(256), np.unwrap(2 * np.pi * turns(item["beat_phase"][:2].numpy())))
        assert len(onsets) > 6 and np.abs(np.sin(at / 2)).max() < 0.05
        changed += abs(np.diff(onsets).max() - 13230) > 20
    assert (changed > 2) == (detune > 0)


def test_no_beat_phase_for_mismatched_stems_or_without_beats():
    remixed = Crops([Metronome()], 20 * HOP, 3, augmentation=Augmentation(remix=1.0), beat_hop=HOP)
    assert not any(remixed[i]["beat_phase"].any() for i in range(3))

    class Plain(Metronome):
        beat_phase = None

    assert not Crops([Plain()], 20 * HOP, 3, beat_hop=HOP)[0]["beat_phase"].any()
    assert "beat_phase" not in Crops([Metronome()], 20 * HOP, 3)[0]


def test_the_beats_of_a_song_are_found_once_and_kept(tmp_path, monkeypatch):
    """Reading the notes takes a tenth of a second, which every loader would spend on every song."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    song, seconds = corpus.songs("train", "band")[0], np.array([0.0, 1.0, 30.0])
    corpus._grid.cache_clear()
    first = song.beat_phase(seconds)
    monkeypatch.setattr(midi, "read", None)  # whoever reads now fails
    corpus._grid.cache_clear()
    assert np.array_equal(song.beat_phase(seconds), first) and len(list(tmp_path.rglob("*.npy"))) == 1
    corpus._grid.cache_clear()
