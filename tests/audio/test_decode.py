"""Sound files of all kinds: what decodes is what there is, and the length is known beforehand."""

import os
import stat
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdm_lite.audio import decode as audio_decode
from msdm_lite.audio.decode import decode, extent
from msdm_lite.errors import InputError, MachineError
from tests.sounds import CUT, noise


def test_samples_rate_and_tags(tmp_path):
    for ending in ("wav", "flac", "ogg", "mp3"):
        with soundfile.SoundFile(tmp_path / f"x.{ending}", "w", 44100, 2) as file:
            file.title, file.artist, file.date = "Café", "Somebody", "1999"
            file.write(noise(1))
        sound = decode(tmp_path / f"x.{ending}")
        right = soundfile.read(tmp_path / f"x.{ending}", dtype="float32")[0].T
        assert sound.samples.dtype == torch.float32 and sound.samples.shape == (2, 44100) and sound.notes == ()
        assert np.abs(sound.samples.numpy() - right).max() < (1e-3 if ending == "mp3" else 1e-9)
        assert sound.sample_rate == 44100 and {"title": "Café", "artist": "Somebody"}.items() <= sound.tags.items()
    assert decode(tmp_path / "x.wav").tags["date"].startswith("1999")


@pytest.mark.parametrize("make", CUT, ids=lambda f: f.__name__)
def test_the_length_is_what_decodes(tmp_path, make):
    path = make(tmp_path)
    found = extent(path)
    assert (found.frames, found.sample_rate) == (decode(path).samples.shape[1], decode(path).sample_rate)


def test_lengths_are_kept_in_the_cache_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "x.mp3", noise(1), 44100)
    assert extent(tmp_path / "x.mp3") == audio_decode.Extent(44100, 44100, False)
    audio_decode._extent.cache_clear()  # as in the next process
    monkeypatch.setattr(audio_decode, "decode", None)
    assert extent(tmp_path / "x.mp3").frames == 44100
    monkeypatch.undo()
    soundfile.write(tmp_path / "x.mp3", noise(2), 44100)
    os.utime(tmp_path / "x.mp3", (1, 1))
    assert extent(tmp_path / "x.mp3").frames == 88200


def test_the_kind_of_a_file_is_what_it_begins_with(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1), 44100)
    right = decode(tmp_path / "x.wav").samples
    for name in ("x.mp3", "x.m4a", "x.flac", "song", "x.mp4"):
        (tmp_path / name).write_bytes((tmp_path / "x.wav").read_bytes())
        assert torch.equal(decode(tmp_path / name).samples, right), name


@pytest.mark.skipif(os.name == "nt", reason="writes a program as a shell script")
def test_other_formats_by_ffmpeg(tmp_path, monkeypatch):
    """A program of that name writes the sound as a WAV file of unknown size to its output, as ffmpeg does."""
    soundfile.write(tmp_path / "sound.wav", noise(1, 48000), 48000, subtype="FLOAT")
    data = bytearray((tmp_path / "sound.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "stream").write_bytes(data)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys, shutil\n"
                       f"open({str(tmp_path / 'asked')!r}, 'w').write(repr(sys.argv[1:]))\n"
                       f"shutil.copyfileobj(open({str(tmp_path / 'stream')!r}, 'rb'), sys.stdout.buffer)\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    right = decode(tmp_path / "sound.wav").samples
    for name, head in (("song.m4a", b"\0\0\0\x20ftypM4A "), ("song", b"\0\0\0\x20ftypisom"),
                       ("clip.webm", b"\x1aE\xdf\xa3"), ("x.aac", b"\xff\xf1P\x80")):
        (tmp_path / name).write_bytes(head + bytes(500))
        sound = decode(tmp_path / name)
        assert torch.equal(sound.samples, right) and sound.sample_rate == 48000 and not sound.notes
        assert f"file:{tmp_path / name}" in (tmp_path / "asked").read_text()
    program.write_text("#!/bin/sh\necho 'song.m4a: no stream' >&2\nexit 1\n")
    with pytest.raises(InputError, match=r"song\.m4a: ffmpeg finds no sound in it \(song\.m4a: no stream\)"):
        decode(tmp_path / "song.m4a")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match=r"song\.m4a needs ffmpeg, which is not installed"):
        decode(tmp_path / "song.m4a")


BEGINNINGS = [b"", b"RIFF\0\0\0\0WAVEfmt ", b"OggS\0\2", b"fLaC\0", b"ID3\4\0", b"\xff\xfb\x90\xc4",
              b"FORM\0\0\0\0AIFF", b"RF64\xff\xff\xff\xffWAVEds64"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.binary(min_size=1, max_size=400), kind=st.sampled_from(BEGINNINGS),
       name=st.sampled_from(["x.wav", "x.mp3", "x.flac", "x.ogg", "x"]))
def test_any_bytes_are_sound_or_one_line(tmp_path_factory, data, kind, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(kind + data)
    try:
        sound = decode(path)
    except InputError as problem:
        assert "\n" not in str(problem) and name in str(problem)
    else:
        assert sound.samples.numel() < 10**6 and sound.sample_rate > 0
