import io
import struct
import tracemalloc

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdm_lite.data import midi
from msdm_lite.errors import InputError


def scale(tempo=500000, kind=1, tracks=1):
    """The bytes of a MIDI file: four notes of the bass, each a quarter of 480 ticks long."""
    file = mido.MidiFile(ticks_per_beat=480, type=kind)
    for _ in range(tracks):
        notes = [mido.Message(what, note=note, velocity=90, time=after) for note in (40, 43, 45, 47)
                 for what, after in (("note_on", 0), ("note_off", 480))]
        file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo),
                                           mido.Message("program_change", program=33), *notes]))
    raw = io.BytesIO()
    file.save(file=raw)
    return raw.getvalue()


GOOD = scale()


def read(raw, folder):
    (folder / "x.mid").write_bytes(raw)
    return midi.read(folder / "x.mid")


def starts(song):
    return [round(now, 6) for now, message, stem in midi.events(song) if message.type == "note_on" and stem == "bass"]


def test_one_map_of_programs():
    assert [midi.family(p) for p in (0, 7, 8, 23, 24, 31, 32, 39, 40, 127)] == [
        "piano", "piano", None, None, "guitar", "guitar", "bass", "bass", None, None]
    assert midi.family(0, channel=9) == "drums"


def test_an_impossible_key_signature_is_repaired(tmp_path):
    file = mido.MidiFile()
    track = mido.MidiTrack([mido.MetaMessage("key_signature", key="C"), mido.Message("note_on", note=60, velocity=64),
                            mido.Message("note_off", note=60, time=480)])
    file.tracks.append(track)
    raw = io.BytesIO()
    file.save(file=raw)
    broken = raw.getvalue().replace(b"\xff\x59\x02\x00\x00", b"\xff\x59\x02\x2a\x07")
    assert broken != raw.getvalue()
    (tmp_path / "broken.mid").write_bytes(broken)
    assert midi.read(tmp_path / "broken.mid").length == pytest.approx(0.5)


@pytest.mark.parametrize("content", [b"", b"no midi at all", b"MThd\x00\x00"])
def test_what_is_no_midi(tmp_path, content):
    (tmp_path / "x.mid").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.mid"):
        midi.read(tmp_path / "x.mid")
    with pytest.raises(InputError, match="no such file"):
        midi.read(tmp_path / "none.mid")


def division(frames, ticks):
    return GOOD[:12] + bytes([256 - frames, ticks]) + GOOD[14:]


@pytest.mark.parametrize("frames, ticks, second", [(25, 40, 1000), (24, 80, 1920), (30, 4, 120),
                                                   (29, 80, 2400 / 1.001)])
def test_time_in_frames_does_not_depend_on_the_tempo(tmp_path, frames, ticks, second):
    """SMPTE: so many ticks in a second, whatever the tempo says; 29 frames stand for 29.97."""
    song = read(division(frames, ticks), tmp_path)
    assert starts(song) == pytest.approx([n * 480 / second for n in range(4)], abs=1e-5)
    assert song.length == pytest.approx(4 * 480 / second)


def test_a_track_that_says_too_much_is_read_to_the_end(tmp_path):
    at = GOOD.index(b"MTrk") + 4
    for said in (len(GOOD), 2**32 - 1):
        assert starts(read(GOOD[:at] + struct.pack(">I", said) + GOOD[at + 4 :], tmp_path)) == [0, 0.5, 1, 1.5]


def test_what_is_no_track_is_left_out_and_tracks_are_counted(tmp_path):
    more = GOOD[:14] + b"XFIH" + struct.pack(">I", 3) + b"abc" + GOOD[14:]
    assert starts(read(more, tmp_path)) == [0, 0.5, 1, 1.5]
    for count in (0, 2, 65535):
        assert starts(read(GOOD[:10] + struct.pack(">H", count) + GOOD[12:], tmp_path)) == [0, 0.5, 1, 1.5]
    long_header = GOOD[:4] + struct.pack(">I", 8) + GOOD[8:14] + b"ab" + GOOD[14:]
    assert starts(read(long_header, tmp_path)) == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize("raw, says", [
    (GOOD[:12] + b"\0\0" + GOOD[14:], "without ticks"), (division(25, 0), "without ticks"),
    (scale(tempo=0), "a tempo of 0"), (GOOD[:-9], "cut short"),
    (scale(kind=2, tracks=3), "3 independent songs"), (GOOD[:14], "without a track"),
    (bytes(midi.MOST + 1), "larger than 8 MB")])
def test_what_has_no_meaning_is_one_line(tmp_path, raw, says):
    with pytest.raises(InputError, match=rf"x\.mid.*{says}") as problem:
        read(raw, tmp_path)
    assert "\n" not in str(problem.value)


def test_one_song_of_format_2(tmp_path):
    assert starts(read(scale(kind=2), tmp_path)) == [0, 0.5, 1, 1.5]


def reads_or_refuses(raw, folder):
    """Bytes give a song whose times are numbers, or one line; in memory that is bounded by their length."""
    tracemalloc.start()
    try:
        song = read(raw, folder)
        assert all(now >= 0 for now, _, _ in midi.events(song)) and song.length >= 0
        assert all(0 <= share <= 1 for share in midi.activity(song).values())
    except InputError as problem:
        assert "\n" not in str(problem) and "()" not in str(problem)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2000 * len(raw) + 2_000_000


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.integers(0, 2), st.integers(0, 65535), st.integers(0, 65535))
def test_any_bytes_as_a_track(tmp_path_factory, events, kind, count, ticks):
    track = b"MTrk" + struct.pack(">I", len(events)) + events
    reads_or_refuses(b"MThd" + struct.pack(">IHHH", 6, kind, count, ticks) + track, tmp_path_factory.getbasetemp())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_changed_bytes(tmp_path_factory, changes):
    raw = bytearray(GOOD)
    for place, value in changes:
        raw[place] = value
    reads_or_refuses(bytes(raw), tmp_path_factory.getbasetemp())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_any_bytes_and_any_cut(tmp_path_factory, raw, at):
    reads_or_refuses(raw, tmp_path_factory.getbasetemp())
    reads_or_refuses(GOOD[:at] + raw, tmp_path_factory.getbasetemp())
