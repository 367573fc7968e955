import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from msdm_lite.data import readers
from msdm_lite.errors import InputError
from tests.sounds import SPOILERS, band, sound


def names(tracks):
    return [(track.name, track.split) for track in tracks]


# What is found


@pytest.mark.parametrize("ending", [".wav", ".flac", ".aiff", ".ogg", ".mp3"])
def test_a_folder_of_songs(tmp_path, ending):
    band(tmp_path / "b", ending)
    band(tmp_path / "a", ending)
    tracks = readers.folder(tmp_path)
    assert names(tracks) == [("a", None), ("b", None)]
    assert tracks == readers.find(tmp_path) and {track.source for track in tracks} == {"folder"}
    got = tracks[0].read()
    assert got.dtype == np.float32 and got.shape == (4, tracks[0].samples) and got.flags.writeable
    assert got[:, 2205] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.02)


def test_one_song_given_directly(tmp_path, monkeypatch):
    monkeypatch.chdir(band(tmp_path / "song"))
    assert names(readers.find(tmp_path / "song")) == names(readers.find(".")) == [("song", None)]


def test_files_side_by_side_and_capital_letters(tmp_path, said):
    for name in ("One_Bass.WAV", "One-drums.wav", "One.PIANO.wav", "Two - guitar.flac", "a-b_bass.wav"):
        sound(tmp_path / name)
    (tmp_path / "a folder_piano.wav").mkdir()
    found = {track.name: list(track.files) for track in readers.find(tmp_path)}
    assert found == {"One": ["bass", "drums", "piano"], "Two": ["guitar"], "a-b": ["bass"]} and not said()


def test_splits_above_songs_and_above_files(tmp_path):
    for number, split in enumerate(("train", "val", "validation", "VALID", "test")):
        band(tmp_path / split / f"song{number}", stems=["bass"])
    sound(tmp_path / "test" / "flat_bass.wav")
    band(tmp_path / "outside", stems=["bass"])
    assert names(readers.find(tmp_path)) == [("flat", "test"), ("outside", None), ("song0", "train"), ("song1", "val"),
                                             ("song2", "val"), ("song3", "val"), ("song4", "test")]


def test_other_files_are_counted_in_one_warning(tmp_path, said):
    for song in "ab":
        band(tmp_path / song)
        for other in ("vocals.wav", "mixture.wav", "other.wav", "slap bass.wav", "notes.txt", "._bass.wav", ".x.wav"):
            (tmp_path / song / other).touch()
    assert len(readers.find(tmp_path)) == 2
    (line,) = said()
    assert line.startswith("6 other sound files are left out") and "mixture" not in line
    assert line.endswith("the stems are bass, drums, guitar, piano, and found are bass, drums, guitar, piano, other, "
                         "slap bass, vocals")


def test_songs_of_other_stems_are_told_in_one_line(musdb, said):
    """Those that were found, in an error where none is among those asked for, else in one warning."""
    with pytest.raises(InputError, match=r"no stems guitar, piano in .*: its songs have bass, drums, other, vocals\. "
                                         "Name those to use: --stems bass drums other vocals$"):
        readers.find(musdb, stems=("guitar", "piano"))
    tracks = readers.find(musdb)
    (line,) = said()
    assert [list(track.files) for track in tracks] == [["bass", "drums"]] * 3
    assert line.endswith("the stems are bass, drums, guitar, piano, and found are bass, drums, other, vocals")


def test_a_missing_stem_is_silence(tmp_path, said):
    band(tmp_path / "s", stems=["drums"])
    (track,) = readers.find(tmp_path)
    assert track.files == {"drums": (tmp_path / "s" / "drums.wav",)} and not said()
    assert track.read().any(1).tolist() == [False, True, False, False]


def test_the_better_of_two_files_of_one_stem(tmp_path, said):
    band(tmp_path / "s", ".mp3", ["bass"])
    band(tmp_path / "s", ".wav", ["bass"])
    (track,) = readers.find(tmp_path)
    assert track.files["bass"][0].name == "bass.wav" and "same stem" in said()[0] and len(said()) == 1


def test_scanning_decodes_one_sample_of_a_file_that_says_its_length(tmp_path, monkeypatch):
    for ending in (".wav", ".flac", ".ogg"):
        band(tmp_path / ending[1:], ending)
    asked, read = [], soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n=-1, **k: asked.append(n) or read(self, n, **k))
    assert len(readers.find(tmp_path)) == 3
    assert asked == [1] * 8  # the last of each wav and flac; an ogg is counted by its last page


def test_the_home_folder(tmp_path, monkeypatch):
    band(tmp_path / "songs" / "one")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [track.name for track in readers.find("~/songs")] == ["one"]


# Splits


def test_a_split_given_as_the_folder(tmp_path):
    """Its name says the split of its songs, in each layout."""
    for split in ("train", "Validation"):
        band(tmp_path / "own" / split / "song", stems=["bass"])
        sound(tmp_path / "own" / split / "flat_bass.wav")
        band(tmp_path / "msdm" / split / "Track00001", stems=["bass"])
    for split, name in (("train", "train"), ("val", "Validation")):
        assert names(readers.find(tmp_path / "own" / name)) == [("flat", split), ("song", split)]
        for layout in ("auto", "slakh_msdm"):
            assert names(readers.find(tmp_path / "msdm" / name, layout)) == [("Track00001", split)]
    assert names(readers.find(tmp_path / "own" / "train" / "song")) == [("song", None)]


def test_songs_whose_names_look_like_splits(tmp_path):
    """A folder of stems is a song; `Train` was of the split train, and all others then of none."""
    for name in ("Test", "train", "Other", "val"):
        band(tmp_path / name, stems=["bass"])
    assert names(readers.find(tmp_path)) == [("Other", None), ("Test", None), ("train", None), ("val", None)]
    assert names(readers.find(tmp_path / "Test")) == [("Test", None)]  # also given directly
    band(tmp_path / "set" / "train" / "test", stems=["bass"])
    band(tmp_path / "set" / "test" / "train", stems=["bass"])
    assert names(readers.find(tmp_path / "set")) == [("test", "train"), ("train", "test")]


def test_songs_of_other_stems_whose_names_look_like_splits(tmp_path):
    for name in ("test", "b"):
        sound(tmp_path / name / "vocals.wav")
    assert names(readers.find(tmp_path, stems=("vocals",))) == [("b", None), ("test", None)]


# What goes wrong


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_a_bad_file_is_named_and_its_song_left_out(tmp_path, said, spoil):
    band(tmp_path / "good")
    spoil(band(tmp_path / "bad") / "guitar.wav")
    assert names(readers.find(tmp_path)) == [("good", None)]
    (line,) = said()
    assert str(tmp_path / "bad" / "guitar.wav") in line and "the song bad is left out" in line
    with pytest.raises(InputError, match="none of the 1 songs"):
        readers.find(tmp_path / "bad")


def test_links_that_lead_in_circles(tmp_path):
    band(tmp_path / "song")
    band(tmp_path / "test" / "held")
    (tmp_path / "train").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "again").symlink_to(tmp_path / "test" / "held")
    (tmp_path / "song" / "up").symlink_to(tmp_path)
    assert names(readers.find(tmp_path)) == [("held", "test"), ("song", None)]


def refuse(monkeypatch, owner, method, name):
    """As the system does who may not look into `name`; tests may run as root, who may."""
    real = getattr(owner, method)

    def asked(path, *args, **kwargs):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(owner, method, asked)


def test_files_and_folders_that_may_not_be_read(tmp_path, monkeypatch, said):
    for song in ("good", "shut", "half"):
        band(tmp_path / song)
    refuse(monkeypatch, Path, "iterdir", "shut")
    (tmp_path / "half" / "piano.wav").rename(tmp_path / "half" / "Piano.wav")
    refuse(monkeypatch, Path, "open", "Piano.wav")
    assert names(readers.find(tmp_path)) == [("good", None)]
    assert len(said()) == 2 and all("Permission denied" in line for line in said())
    refuse(monkeypatch, os, "listdir", tmp_path.name)
    with pytest.raises(InputError, match="Permission denied"):
        readers.find(tmp_path)


@pytest.mark.parametrize("layout", ["auto", "folder", "slakh", "slakh_msdm"])
def test_nothing_to_be_found(tmp_path, layout):
    with pytest.raises(InputError, match="holds nothing"):
        readers.find(tmp_path, layout)
    (tmp_path / "notes.txt").touch()
    sound(tmp_path / "vocals.wav")
    with pytest.raises(InputError, match=r"holds notes.txt, vocals.wav; .*song_bass.wav.*metadata.yaml.*TrackXXXXX/b"):
        readers.find(tmp_path, layout)
    with pytest.raises(InputError, match="none: no such folder"):
        readers.find(tmp_path / "none", layout)
    with pytest.raises(InputError, match="is a file"):
        readers.find(str(tmp_path / "notes.txt"), layout)


def test_a_layout_that_there_is_not(tmp_path):
    with pytest.raises(InputError, match="layout is auto, folder, slakh, slakh_msdm, not 'musdb'"):
        readers.find(tmp_path, "musdb")


@pytest.mark.parametrize("songs, tty, shown", [(60, True, True), (60, False, False), (3, True, False)])
def test_a_bar_for_many_songs_on_a_terminal(tmp_path, monkeypatch, capsys, songs, tty, shown):
    for number in range(songs):
        sound(tmp_path / f"{number}_bass.wav", 0.01)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty, raising=False)
    assert len(readers.find(tmp_path)) == songs
    assert ("looking at stems" in capsys.readouterr().err) is shown
