import io

import mido
import pytest

from msdm_lite.data import midi
from msdm_lite.errors import InputError


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
