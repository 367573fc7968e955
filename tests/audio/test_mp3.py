"""mp3 files whose first frame counts wrongly, or not at all, against the same sound written rightly."""

import io
import struct

import numpy as np
import pytest
import soundfile

from msdm_lite.audio import mp3
from msdm_lite.errors import InputError
from tests.sounds import rng


def encoded(seconds=3.0, rate=44100, **how):
    """The bytes of an mp3 file, and its sound (T,): louder and louder, so that a variable rate varies."""
    t = np.arange(round(seconds * rate)) / rate
    sound = (0.3 * np.sin(2 * np.pi * 440 * t) * np.exp(-3 * (t % 0.5)) * (t > seconds / 3)
             + 0.05 * rng("mp3").standard_normal(len(t)) * (t > seconds / 3))
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format="MP3", subtype="MPEG_LAYER_III", **how)
    return buffer.getvalue(), sound


def tag(data):
    """Where the tag of the first frame is."""
    return max(data[:2000].find(b"Xing"), data[:2000].find(b"Info"))


def counting(data, count):
    return data[: tag(data) + 8] + struct.pack(">I", count) + data[tag(data) + 12 :]


@pytest.fixture(scope="module", params=["CONSTANT", "VARIABLE"])
def file(request):
    return encoded(bitrate_mode=request.param, compression_level=0.4)[0]


def test_a_right_file_keeps_its_length_to_the_sample(file):
    samples, rate, note = mp3.read(file)
    right = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)[0]
    assert samples.shape == right.shape == (3 * 44100, 1) and (rate, note) == (44100, "")
    assert np.abs(samples - right).max() < 1e-3  # of two decoders
    behind_a_tag = b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000) + file  # 1000 = 7 * 128 + 0x68
    assert np.array_equal(mp3.read(behind_a_tag)[0], samples)
    assert np.array_equal(mp3.read(file + b"TAG" + bytes(125))[0], samples)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.5, 2.0, 1000.0])
def test_a_wrong_count_changes_no_sample(file, share):
    count = struct.unpack(">I", file[tag(file) + 8 :][:4])[0]
    right = mp3.read(file)[0]
    samples, _, note = mp3.read(counting(file, int(share * count)))
    assert 0 <= len(samples) - len(right) < 4 * 1152  # with the silence at the end
    assert np.array_equal(samples[: len(right)], right) and "its header counts" in note


def test_a_file_without_a_count_is_read_to_its_end(file):
    """The first frame left out: the rest has the silence of the encoder at both ends, 1105 samples before the sound."""
    right = mp3.read(file)[0]
    second = file.find(file[:2], 300)
    samples, _, note = mp3.read(file[second:])
    assert 1105 <= len(samples) - len(right) < 5 * 1152 and note == ""
    assert np.abs(samples[1105:][: len(right)] - right)[3000:].max() < 1e-6


def test_files_that_were_joined(file):
    right = mp3.read(file)[0]
    samples, _, note = mp3.read(file + file)
    assert 2 * len(right) <= len(samples) < 2 * len(right) + 6 * 1152 and "its header counts 3" in note
    assert np.array_equal(samples[: len(right)], right)
    second = samples[len(right) + 551 :][: len(right) + 4000, 0]  # behind the silence at the end of the first
    likeness = np.fft.irfft(np.fft.rfft(second, 1 << 18) * np.conj(np.fft.rfft(right[:, 0], 1 << 18)))
    at = int(likeness.argmax())
    assert np.abs(second[at:][:90000] - right[:90000, 0])[3000:].max() < 1e-6


def test_a_file_cut_short_is_read_to_where_it_ends(file):
    right = mp3.read(file)[0]
    samples, _, note = mp3.read(file[: len(file) * 6 // 10])
    assert 0.3 * len(right) < len(samples) < 0.8 * len(right) and "are there and read" in note
    assert np.abs(samples - right[: len(samples)])[:-1152].max() < 1e-6


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 48000])
def test_other_rates(rate):
    data, sound = encoded(1.5, rate)
    samples, found, note = mp3.read(data)
    assert (samples.shape, found, note) == ((len(sound), 1), rate, "")
    halved = mp3.read(counting(data, struct.unpack(">I", data[tag(data) + 8 :][:4])[0] // 2))
    assert len(halved[0]) >= len(sound) and halved[2]


@pytest.mark.parametrize("data", [b"", b"x", b"no frame " * 999, bytes(9999), b"ID3\x04\0\0\0\0\x7f\x7f",
                                  rng("no mp3").bytes(300_000)])
def test_what_is_no_mp3_has_one_line(data):
    with pytest.raises(InputError):
        mp3.read(data)


def test_a_few_frames_in_much_else_are_no_mp3():
    data, _ = encoded(1.0)
    with pytest.raises(InputError, match="it is no mp3"):
        mp3.read(data[:2000] + b"word " * 400_000)


def test_what_is_for_this_decoder():
    assert mp3.is_mp3(b"ID3", "x") and mp3.is_mp3(b"\xff\xfb\x90", "x.bin") and mp3.is_mp3(b"", "x.MP3")
    assert not mp3.is_mp3(b"RIFF", "x.wav") and not mp3.is_mp3(b"\xff\xf1\x50", "x.aac")  # AAC
