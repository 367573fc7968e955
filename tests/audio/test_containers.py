"""What lies in WAV and Ogg files, against what their headers say: the same sound, written rightly, is the measure."""

import io
import struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdm_lite.audio import containers
from msdm_lite.audio.decode import decode, extent
from msdm_lite.errors import InputError
from tests.sounds import rng

SOUND = np.round(rng("containers").uniform(-9000, 9000, (3001, 2))).astype(np.int16)
TAG = b"LIST" + struct.pack("<I", 26) + b"INFOINAM" + struct.pack("<I", 14) + b"behind sound\0\0"


def wav(sound=SOUND, said=None, behind=b"", subtype="PCM_16"):
    """The bytes of a WAV file whose header says a data size, with bytes behind the sound."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, 22050, format="WAV", subtype=subtype)
    data = buffer.getvalue()
    at = data.index(b"data") + 4
    there = sound.size * {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3}[subtype]
    return data[:at] + struct.pack("<I", there if said is None else said) + data[at + 4 :][:there] + behind


def read(folder, data, name="x.wav"):
    (folder / name).write_bytes(data)
    found = decode(folder / name)
    length = extent(folder / name)
    assert (length.frames, length.sample_rate) == (found.samples.shape[1], found.sample_rate)
    return found


RIGHT = torch.from_numpy(SOUND.T / 32768).float()
SIZE = SOUND.nbytes


@pytest.mark.parametrize("behind", [b"", TAG], ids=["nothing", "a chunk"])
@pytest.mark.parametrize("said", [0, SIZE - 4, SIZE // 2, SIZE - 40, SIZE + 20, 3 * SIZE, 0x7FFFF000, 0xFFFFFFFF])
def test_any_data_size_reads_the_whole_sound(tmp_path, said, behind):
    found = read(tmp_path, wav(said=said, behind=behind))
    assert torch.equal(found.samples, RIGHT) and found.sample_rate == 22050
    assert len(found.notes) == 1 and "its header" in found.notes[0]


@pytest.mark.parametrize("behind", [b"", TAG, TAG + TAG, b"\0", bytes(4096), b"TAG" + bytes(125),
                                    b"id3 " + struct.pack("<I", 9999) + b"cut in the middle"])
def test_a_right_size_is_believed(tmp_path, behind):
    found = read(tmp_path, wav(behind=behind))
    assert torch.equal(found.samples, RIGHT) and not found.notes


def test_an_odd_number_of_bytes(tmp_path):
    """Of 8 or 24 bits: a byte makes the size even, and a chunk may follow."""
    for subtype, bits in (("PCM_U8", 8), ("PCM_24", 24)):
        sound = SOUND[:, :1]
        right = decode_rightly(tmp_path, sound, subtype)
        for behind in (b"", b"\0", b"\0" + TAG):
            found = read(tmp_path, wav(sound, behind=behind, subtype=subtype))
            assert torch.equal(found.samples, right), (bits, behind)


def decode_rightly(folder, sound, subtype):
    soundfile.write(folder / "right.wav", sound, 22050, subtype=subtype)
    return torch.from_numpy(soundfile.read(folder / "right.wav", dtype="float32", always_2d=True)[0].T)


def test_a_file_without_sound_has_none(tmp_path):
    for data in (wav(SOUND[:0]), wav(SOUND[:0], behind=TAG), wav(SOUND[:0], said=0xFFFFFFFF)):
        (tmp_path / "x.wav").write_bytes(data)
        with pytest.raises(InputError, match="no samples"):
            decode(tmp_path / "x.wav")


def test_wav_files_that_were_joined(tmp_path):
    found = read(tmp_path, wav() + wav(behind=TAG) + wav(SOUND[:77], said=0))
    assert torch.equal(found.samples, torch.cat([RIGHT, RIGHT, RIGHT[:, :77]], 1))
    assert any("3 files are joined" in note for note in found.notes)
    mixed = read(tmp_path, wav() + wav(SOUND[:, :1]), "y.wav")
    assert torch.equal(mixed.samples, RIGHT) and "1 of the joined files" in mixed.notes[-1]


def test_ogg_files_that_were_joined(tmp_path):
    parts = []
    for n in (1, 2):
        soundfile.write(tmp_path / "part.ogg", 0.1 * rng(n).standard_normal((20000 * n, 1)), 22050)
        parts.append((tmp_path / "part.ogg").read_bytes())
    right = [read(tmp_path, part, f"{n}.ogg").samples for n, part in enumerate(parts)]
    found = read(tmp_path, b"".join(parts), "joined.ogg")
    assert torch.equal(found.samples, torch.cat(right, 1)) and found.samples.shape == (1, 60000)
    assert "2 files are joined" in found.notes[0]


def test_a_window_is_a_file(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(100)))
    window = containers.Window((tmp_path / "x").open("rb"), containers.Part(10, 30, 4, b"AB"))
    assert window.read() == bytes([10, 11, 12, 13]) + b"AB" + bytes(range(16, 30))
    assert window.seek(-3, io.SEEK_END) == 17 and window.read(9) == bytes([27, 28, 29])
    assert window.seek(5) == 5 and window.read(2) == b"B\x10" and window.tell() == 7
    window.close()
    assert window.file.closed


def test_web_pages():
    for page in (b"<!DOCTYPE html>", b"\n  <HTML lang=en>", b"\xef\xbb\xbf<html>", b'<?xml version="1.0"?>\n<html>'):
        assert containers.is_web_page(page)
    assert not containers.is_web_page(b"RIFF<html>") and not containers.is_web_page(b"")


def test_many_small_chunks_take_no_hours(tmp_path):
    data = wav(SOUND[:10], said=0, behind=b"LIST\0\0\0\0" * 200_000 + b"x")
    (tmp_path / "x.wav").write_bytes(data)
    assert len(containers.layout(tmp_path / "x.wav").parts) == 1
    (tmp_path / "y.wav").write_bytes(data[:12] + b"JUNK\0\0\0\0" * 200_000)
    assert containers.layout(tmp_path / "y.wav").notes == ()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(said=st.integers(0, 2**32 - 1), cut=st.integers(0, 400), at=st.integers(0, 80), byte=st.integers(0, 255),
       behind=st.binary(max_size=60))
def test_any_bytes_of_a_wav_file_are_sound_or_one_line(tmp_path_factory, said, cut, at, byte, behind):
    """A broken byte, any size, an end cut off, bytes behind: samples that are finite in number, or one line."""
    data = bytearray(wav(SOUND[:200], said=said, behind=behind))
    data[at % len(data)] = byte
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    path.write_bytes(bytes(data[: len(data) - cut]))
    try:
        found = decode(path)
    except InputError as problem:
        assert "\n" not in str(problem) and "x.wav" in str(problem)
    else:
        assert 0 < found.samples.shape[1] <= 8 * len(data) and found.sample_rate > 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(said=st.integers(0, 2**32 - 1), frames=st.integers(1, 300), channels=st.integers(1, 6))
def test_a_size_alone_never_changes_the_sound(tmp_path_factory, said, frames, channels):
    sound = SOUND[: frames * channels].reshape(-1)[: frames * channels].reshape(frames, channels)
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    path.write_bytes(wav(sound, said=said))
    found = decode(path).samples
    assert torch.equal(found, torch.from_numpy(sound.T / 32768).float())
