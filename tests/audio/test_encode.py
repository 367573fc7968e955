import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from msdm_lite.audio import encode
from msdm_lite.errors import InputError

TAGS = {"title": "Tïtle", "artist": "An Artist", "album": "Album", "date": "1999", "comment": "words"}


@pytest.mark.parametrize("name, bits, subtype, error", [
    ("x.wav", None, "FLOAT", 0.0), ("x.wav", "float", "FLOAT", 0.0), ("x.wav", "24", "PCM_24", 2**-22),
    ("x.wav", "16", "PCM_16", 2**-14), ("x.flac", None, "PCM_24", 2**-22), ("x.flac", "16", "PCM_16", 2**-14)])
def test_bits_and_tags_of_each_format(tmp_path, name, bits, subtype, error):
    """What comes back differs by rounding alone, also at full scale; title and artist are there."""
    wave = torch.cat([torch.empty(2, 3000).uniform_(-1, 1), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])], 1)
    encode.save(tmp_path / name, wave, 44100, bits, {**TAGS, "track number": "3"})
    with soundfile.SoundFile(tmp_path / name) as file:
        assert (file.subtype, file.samplerate, file.channels) == (subtype, 44100, 2)
        assert file.copy_metadata() == TAGS
        assert np.abs(file.read(dtype="float32").T - wave.numpy()).max() <= error


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="this libsndfile writes no mp3")
def test_mp3(tmp_path):
    time = torch.arange(22050) / 22050
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * time)
    with soundfile.SoundFile(encode.save(tmp_path / "x.mp3", wave, 22050, None, TAGS)) as file:
        assert file.copy_metadata()["artist"] == "An Artist"
        found = file.read(dtype="float32")[: len(wave)]
    assert np.abs(found - wave.numpy())[1000:-1000].max() < 0.05
    with pytest.raises(InputError, match="mp3 has no rate of 96000 Hz"):
        encode.save(tmp_path / "y.mp3", wave, 96000)
    assert not (tmp_path / "y.mp3").exists()


def test_mp3_needs_a_libsndfile_that_writes_it(monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "wav"})
    with pytest.raises(InputError, match="writes no mp3"):
        encode.encoding(".mp3")


@pytest.mark.parametrize("suffix, bits, says", [(".mp9", None, r"not as \.mp9"), ("", None, "without an ending"),
                                                (".flac", "float", "has 24 or 16 bits, not 'float'"),
                                                (".wav", "8", "has float or 24 or 16 bits"),
                                                (".mp3", "16", "has no choice of bits")])
def test_encodings_that_are_not_there(suffix, bits, says):
    with pytest.raises(InputError, match=says):
        encode.encoding(suffix, bits)


def test_what_clips():
    kinds = ((".wav", None), (".wav", "16"), (".wav", "24"), (".flac", None), (".mp3", None))
    assert [encode.clips(*kind) for kind in kinds] == [False, True, True, True, True]


def test_a_tagged_wav_has_no_time_in_it(tmp_path):
    """PEAK lies behind the tags then."""
    data = encode.save(tmp_path / "x.wav", torch.randn(100), 44100, tags=TAGS).read_bytes()
    at = data.find(b"PEAK")
    assert at > data.find(b"LIST") > 0 and data[at + 12:at + 16] == bytes(4)


@pytest.mark.parametrize("links", [True, False])
def test_a_rename_that_fails_takes_back_those_before_it(tmp_path, monkeypatch, links):
    old = {tmp_path / f"{name}.wav": torch.full((10,), value) for name, value in (("a", 0.1), ("b", 0.2))}
    encode.save_all(old)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(1, "no links here")))
    real, renamed = Path.replace, []

    def failing(self, target):
        if Path(target).name == "c.wav":
            raise OSError(5, "Input/output error")
        renamed.append(Path(target).name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(InputError, match=r"c\.wav cannot be written \(Input/output error"):
        encode.save_all({tmp_path / f"{name}.wav": torch.zeros(10) for name in ("a", "new", "b", "c")})
    assert renamed[:3] == ["a.wav", "new.wav", "b.wav"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_scraps_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    for name in (f".{'0a' * 16}.part.wav", f".{'0b' * 16}.part"):
        (tmp_path / name).touch()
    for name in (".part.wav", "song.part.wav", f"{'0a' * 16}.part.wav"):
        (tmp_path / name).touch()
    encode.remove_scraps(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".part.wav", f"{'0a' * 16}.part.wav",
                                                                       "song.part.wav"])


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_text(tmp_path):
    try:
        path = encode.save(tmp_path / os.fsdecode(b"caf\xe9.wav"), torch.ones(10))
    except InputError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert soundfile.info(os.fsencode(path)).frames == 10
