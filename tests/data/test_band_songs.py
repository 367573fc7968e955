"""Charts, and what becomes of what MMA plays. MMA itself is a Debian package: a test of it skips where it is not."""

import csv
import random
import textwrap

import mido
import pytest

from msdm_lite.audio.io import STEMS
from msdm_lite.data import band_songs, midi
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import paths

PLAYER = """
    import sys, mido
    chart, out = open(sys.argv[1]).read(), sys.argv[3]
    if "Groove Broken" in chart:
        sys.exit(1)
    song, bars = mido.MidiFile(), sum(line[:1].isdigit() for line in chart.splitlines())
    parts = [(0, 33), (9, 0), (1, 25), (2, 48 if "Groove Strings" in chart else 0)]
    for channel, program in parts:
        track = mido.MidiTrack()
        track.append(mido.MetaMessage("track_name", name="x"))
        track.append(mido.Message("control_change", channel=channel, control=10, value=1, time=5))
        track.append(mido.Message("control_change", channel=channel, control=7, value=90))
        track.append(mido.Message("program_change", channel=channel, program=program))
        for _ in range(4 * bars):
            track.append(mido.Message("note_on", channel=channel, note=40, velocity=80))
            track.append(mido.Message("note_off", channel=channel, note=40, time=song.ticks_per_beat))
        song.tracks.append(track)
    song.save(out)
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """In MMA's place, a program that plays one note a beat on every instrument of the chart."""
    folder = tmp_path / "mma"
    for style, text in {"swing1": "DefGroove Swing\nDefGroove SwingIntro", "swing2": "defgroove Swing2",
                        "broken": "DefGroove Broken", "strings": "DefGroove Strings", "none": "DefGroove Nothing"
                        }.items():
        (folder / "lib" / "std").mkdir(parents=True, exist_ok=True)
        (folder / "lib" / "std" / f"{style}.mma").write_text(text)
    (folder / "mma.py").write_text(textwrap.dedent(PLAYER))
    monkeypatch.setattr(band_songs, "library", lambda: folder)
    return folder


def test_grooves_are_those_that_carry_a_song(library):
    assert band_songs.grooves() == {"broken": ["Broken"], "strings": ["Strings"], "swing": ["Swing", "Swing2"]}


def test_only_four_stems_are_kept_and_they_have_the_song_s_programs(library):
    (song, played), = band_songs.songs(1, seed=3)
    assert song.groove in ("Swing", "Swing2") and song.name == "band_0000"  # the others have no four stems
    assert set(midi.activity(played)) == set(STEMS)
    sent = {(m.channel, m.program) for track in played.tracks for m in track if m.type == "program_change"}
    assert sent == {(channel, song.programs[stem]) for channel, stem in zip((0, 9, 1, 2), STEMS, strict=True)}
    kinds = [(m.type, getattr(m, "control", None)) for track in played.tracks for m in track]
    assert ("control_change", 7) in kinds and ("control_change", 10) not in kinds  # level stays, panning goes
    assert ("track_name", None) not in kinds
    starts = [sum(m.time for m in track[:3]) for track in played.tracks]
    assert starts == [5] * 4  # the time before what was dropped is kept


def test_what_cannot_be_played_or_lacks_a_player(library):
    song = next(band_songs.songs(1))[0]
    broken = band_songs.Song(**{**vars(song), "groove": "Broken"})
    assert band_songs.play(broken) is None
    assert "piano" not in midi.activity(band_songs.play(band_songs.Song(**{**vars(song), "groove": "Strings"})))
    for style in ("swing1", "swing2"):
        (library / "lib" / "std" / f"{style}.mma").unlink()
    with pytest.raises(MachineError, match="none of its grooves"):
        next(band_songs.songs(1))


def test_songs_are_written_with_their_list_and_the_same_again(library, tmp_path):
    table = band_songs.write(tmp_path / "one", count=3, seed=5)
    again = band_songs.write(tmp_path / "two", count=3, seed=5)
    assert table.read_bytes() == again.read_bytes() != band_songs.write(tmp_path / "three", 3, 6).read_bytes()
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["name"] for row in rows] == ["band_0000", "band_0001", "band_0002"]
    for row in rows:
        path = table.parent / "band" / f"{row['name']}.mid"
        assert mido.MidiFile(path).length == pytest.approx(float(row["seconds"]), abs=0.05)
        assert path.read_bytes() == (tmp_path / "two" / "band" / path.name).read_bytes()
        assert (row["family"], row["split"]) == ("swing", "train") and int(row["piano"]) in band_songs.PROGRAMS["piano"]
    with pytest.raises(InputError, match="at least one song"):
        band_songs.write(tmp_path / "none", 0)


def test_the_shipped_songs_are_what_the_seed_gives():
    if not paths.cache("debian", "mma").is_dir():
        pytest.skip("mma is not unpacked here: `msdm-lite data compose` fetches it")
    song, played = next(band_songs.songs(1))
    shipped = midi.read(paths.data("songs", "band", f"{song.name}.mid"))
    with open(paths.data("songs", "band.tsv"), newline="") as file:
        row = next(csv.DictReader(file, delimiter="\t"))
    assert (row["groove"], row["key"], int(row["tempo"])) == (song.groove, song.key, song.tempo)
    for mine, theirs in zip(played.tracks, shipped.tracks, strict=True):  # saving adds the end of each track
        assert list(map(str, mine)) == [str(message) for message in theirs if message.type != "end_of_track"]


def test_charts_depend_on_the_seed_alone():
    a, b, c = (band_songs.draw(random.Random(seed), "x", "swing", "Swing") for seed in (1, 1, 2))
    assert a == b != c and "Groove Swing" in a.chart() and len(a.bars) > 30
    assert band_songs.split("poprock") == band_songs.split("8beat") == "train"
    assert band_songs.split("shuffleboggie") == band_songs.split("shuffleboogie") == "val"
