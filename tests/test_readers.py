import logging
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from msdm_lite import audio, readers, tracks
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.crops import Crops
from msdm_lite.errors import InputError

RNG = np.random.default_rng(0)
LEVELS = dict(zip(STEMS, (0.1, 0.2, 0.3, 0.4), strict=True))


def sound(path, seconds=0.2, rate=SAMPLE_RATE, channels=1, value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * rate)
    wave = RNG.uniform(-0.5, 0.5, (count, channels)) if value is None else np.full((count, channels), value)
    soundfile.write(path, wave, rate, **({"subtype": "FLOAT"} if path.suffix.lower() == ".wav" else {}))
    return path


def band(folder, ending=".wav", stems=STEMS):
    for stem in stems:
        sound(folder / f"{stem}{ending}", value=LEVELS[stem])
    return folder


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "msdm_lite")
    return lambda: [record.getMessage() for record in caplog.records]


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
    assert line.startswith("8 other sound files are left out") and "mixture.wav" in line


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


# Slakh2100

HEAD = """UUID: 1a81ae092884234f3264e2f45927f00a
audio_dir: Track00001/stems
lmd_midi_dir: lmd_matched/O/O/H/TROOHTB128F931F9DF/1a81ae092884234f3264e2f45927f00a.mid
midi_dir: Track00001/MIDI
normalization_factor: -13.0
normalized: true
overall_gain: 0.18270259567062658
stems:
"""
STEM = """  S{:02d}:
    audio_rendered: {}
    inst_class: {}
    integrated_loudness: -12.82074180245363
    is_drum: {}
    midi_program_name: Acoustic Grand Piano
    midi_saved: true
    plugin_name: None
    program_num: {}
"""
KINDS = [("Guitar", 30), ("Drums", 128), ("Piano", 1), ("Bass", 33), ("Strings (continued)", 52), ("Organ", 17),
         ("Sound Effects", 103), ("Guitar", 26), ("Guitar", 30), ("Organ", 22)]  # the example's


def metadata(kinds=KINDS, unrendered=(6,)):
    stems = (STEM.format(n, str(n not in unrendered).lower(), kind, str(kind == "Drums").lower(), program)
             for n, (kind, program) in enumerate(kinds))
    return HEAD + "".join(stems) + "target_peak: -1.0\n"


def slakh_track(folder, ending=".flac", kinds=KINDS, unrendered=(6,)):
    for number in range(len(kinds)):
        if number not in unrendered:
            sound(folder / "stems" / f"S{number:02d}{ending}", rate=44100, value=0.05 * (number + 1))
    sound(folder / f"mix{ending}")
    (folder / "metadata.yaml").write_text(metadata(kinds, unrendered))
    return folder


@pytest.mark.parametrize("ending", [".flac", ".wav"])
def test_slakh_sums_by_class(tmp_path, ending, said):
    slakh_track(tmp_path / "Track00001", ending)
    (track,) = readers.slakh(tmp_path)
    assert {stem: [path.stem for path in paths] for stem, paths in track.files.items()} == {
        "bass": ["S03"], "drums": ["S01"], "guitar": ["S00", "S07", "S08"], "piano": ["S02"]}
    assert track.read()[:, 2205] == pytest.approx([0.2, 0.1, 0.05 + 0.4 + 0.45, 0.15], abs=1e-3)
    assert not said() and readers.find(tmp_path) == [track] == readers.find(tmp_path / "Track00001")


def test_slakh_splits(tmp_path):
    for number, split in enumerate(("train", "validation", "test", "omitted")):
        slakh_track(tmp_path / split / f"Track0000{number}", kinds=KINDS[:2])
    tracks = readers.find(tmp_path)
    assert [track.split for track in tracks] == ["train", "val", "test", None]
    assert {track.source for track in tracks} == {"slakh"} and tracks[0].name == "Track00000"


def test_slakh_stems_that_were_not_rendered_or_are_gone(tmp_path, said):
    slakh_track(tmp_path / "Track00001", unrendered=(0, 7, 8, 6))
    (tmp_path / "Track00001" / "stems" / "S03.flac").unlink()
    slakh_track(tmp_path / "Track00002", kinds=[("Organ", 17)])
    (track,) = readers.find(tmp_path)
    assert list(track.files) == ["drums", "piano"]
    assert "names the stem S03, and there is no such file" in said()[0] and "Track00002 has no bass" in said()[1]


@pytest.mark.parametrize("text", ["", "stems: 3", "[1]", "stems: {S00: 3}", "stems: {S00: {program_num: 3}}", "x: [",
                                  "!!python/object:os.system {}", "\x00", "stems: 2020-99-99", "[" * 3000,
                                  "stems: {S00: {inst_class: 5}}"])
def test_slakh_metadata_that_is_broken(tmp_path, text, said):
    slakh_track(tmp_path / "Track00001", kinds=KINDS[:2])
    slakh_track(tmp_path / "Track00002", kinds=KINDS[:2])
    (tmp_path / "Track00002" / "metadata.yaml").write_text(text)
    assert names(readers.find(tmp_path)) == [("Track00001", None)]
    (line,) = said()
    assert str(tmp_path / "Track00002" / "metadata.yaml") in line and "Track00002 is left out" in line


def test_slakh_needs_pyyaml(tmp_path, monkeypatch):
    slakh_track(tmp_path / "Track00001", kinds=KINDS[:2])
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InputError, match="pip install pyyaml"):
        readers.find(tmp_path)


def test_slakh_as_the_papers_code_expects_it(tmp_path, said):
    for number, split in enumerate(("train", "validation", "test")):
        band(tmp_path / split / f"Track0000{number}")
        (tmp_path / split / f"Track0000{number}" / "metadata.yaml").write_text(metadata())  # left by who converted
    sound(tmp_path / "train" / "song_bass.wav")
    tracks = readers.slakh_msdm(tmp_path)
    assert names(tracks) == [("Track00000", "train"), ("Track00001", "val"), ("Track00002", "test")]
    assert readers.find(tmp_path) == tracks and {track.source for track in tracks} == {"slakh_msdm"} and not said()


# Reading

SHAPES = [(22050, 1), (44100, 2), (48000, 2), (16000, 1), (8000, 1), (11025, 1), (96000, 1), (44099, 1)]
ANY = [(rate, channels, ending) for rate, channels in SHAPES for ending in (".wav", ".flac")]


@pytest.mark.parametrize("rate, channels, ending", [*ANY, (44100, 2, ".ogg"), (22050, 1, ".mp3"), (48000, 1, ".mp3")])
def test_any_piece_is_that_piece_of_the_whole(tmp_path, rate, channels, ending):
    path = sound(tmp_path / "s" / f"bass{ending}", 3.0007, rate, channels)
    (track,) = readers.find(tmp_path)
    whole, size = track.read()[0], track.samples
    at_once = audio.load(path).numpy()
    assert size == len(whole) == round(soundfile.info(path).frames * SAMPLE_RATE / rate)
    assert np.abs(whole[: len(at_once)] - at_once[:size]).max() < 1e-6
    places = [(0, 1000), (1, 1), (7, 22050), (12345, 4444), (size - 9000, 300), (size - 500, 500), (size - 1, 1),
              *((int(start), 700) for start in RNG.integers(0, size - 700, 20))]
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
    monkeypatch.setattr(tracks, "_length", None)
    assert track.samples == pickle.loads(pickle.dumps(track)).samples == 4410
    track.read()
    assert not before or len(os.listdir("/proc/self/fd")) == len(before)


def test_scanning_decodes_nothing(tmp_path, monkeypatch):
    for ending in (".wav", ".flac", ".ogg", ".mp3"):
        band(tmp_path / ending[1:], ending)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert len(readers.find(tmp_path)) == 4


# What goes wrong


def make_text(path):
    path.write_text("this is not sound\n" * 50)


def make_empty(path):
    path.write_bytes(b"")


def make_no_samples(path):
    soundfile.write(path, np.zeros((0, 1)), SAMPLE_RATE)


def make_half_a_wav(path):
    path.write_bytes(path.read_bytes()[:-2000])


def make_loop(path):
    path.unlink()
    path.symlink_to(path)


def make_dangling(path):
    path.unlink()
    path.symlink_to(path.with_name("gone.wav"))


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


def make_endless(path):
    """A flac that was streamed: the 36 bits of its length are zero."""
    soundfile.write(path, np.zeros(4410), SAMPLE_RATE, format="FLAC")
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    path.write_bytes(raw)


BAD = [make_text, make_empty, make_no_samples, make_half_a_wav, make_loop, make_dangling, make_pipe, make_endless]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_file_is_named_and_its_song_left_out(tmp_path, said, spoil):
    band(tmp_path / "good")
    spoil(band(tmp_path / "bad") / "guitar.wav")
    assert names(readers.find(tmp_path)) == [("good", None)]
    (line,) = said()
    assert str(tmp_path / "bad" / "guitar.wav") in line and "the song bad is left out" in line
    with pytest.raises(InputError, match="none of the 1 songs"):
        readers.find(tmp_path / "bad")


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
def test_a_body_cut_short_is_found_when_read(tmp_path, ending):
    path = sound(tmp_path / "s" / f"bass{ending}", 5)
    (track,) = readers.find(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=re.escape(str(path))):
        track.read()


def test_a_flac_cut_short_passes_the_scan_and_fails_where_it_is_cut(tmp_path):
    path = sound(tmp_path / "s" / "bass.flac", 5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (track,) = readers.find(tmp_path)
    assert track.read(0, 22050)[0].any()
    for start in (0, 90000):
        with pytest.raises(InputError, match=r"bass\.flac is damaged or cut short"):
            track.read(start)


def test_an_ogg_without_its_last_page_is_found_by_the_scan(tmp_path, said):
    path = sound(tmp_path / "s" / "bass.ogg", 5)
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rindex(b"OggS")])  # libsndfile would take it for the whole
    with pytest.raises(InputError, match="none of the 1 songs"):
        readers.find(tmp_path)
    assert "bass.ogg is cut short" in said()[0]


def test_fewer_samples_than_were_promised(tmp_path, monkeypatch):
    sound(tmp_path / "s" / "bass.wav")
    (track,) = readers.find(tmp_path)
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n=-1, **kind: read(self, n - 1, **kind))
    with pytest.raises(InputError, match=r"bass\.wav is cut short"):
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


def test_a_folder_without_splits_gives_all_of_it_for_a_test_and_says_so(tmp_path, said):
    from msdm_lite.recipe import songs_of

    for n in range(12):
        band(tmp_path / f"song{n:02d}")
    found = {split: {track.name for track in songs_of(str(tmp_path), split)} for split in ("train", "val")}
    assert len(found["val"]) == 1 and len(found["train"]) == 11 and not found["val"] & found["train"]
    assert not said()
    assert {track.name for track in songs_of(str(tmp_path), "test")} == found["val"] | found["train"]
    assert "names no test songs" in said()[0]
