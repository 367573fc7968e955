import numpy as np
import pytest
import soundfile

from msdm_lite.data import debian, recordings
from msdm_lite.errors import InputError
from msdm_lite.utils import paths


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """A package of one song, stereo at 44.1 kHz, whose rest is longer than its guitar."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    for package in recordings.LICENCES:
        folder = paths.cache("debian", package) / recordings.FOLDER / "pack" / f"song of {package[-7:]}"
        folder.mkdir(parents=True)
        soundfile.write(folder / "guitar.ogg", 0.5 * rng.uniform(-1, 1, (44100, 2)), 44100)
        soundfile.write(folder / "song.ogg", 0.9 * rng.uniform(-1, 1, (66150, 2)), 44100)
        (folder / "song.ini").write_text("[song]\nname = A % song\nartist = Composed and performed by Someone\n")
        (folder.parent / "no sound").mkdir()
        (folder.parent / "no sound" / "song.ini").write_text("[song]\nname = none\n")
    return tmp_path


def test_a_recording_reads_like_a_track(pack):
    found = recordings.recordings()
    assert len(found) == 2 and found[0].name == "A % song" and found[0].artist == "Someone"
    song = found[0]
    whole = song.read()
    assert whole.dtype == np.float32 and whole.shape == (2, song.samples) and abs(song.samples - 33075) < 3
    assert np.abs(whole.sum(0)).max() <= 1 and not whole[0, 22100:].any() and whole[1, 22100:33000].any()
    assert np.array_equal(song.read(1000, 500), whole[:, 1000:1500])
    assert np.array_equal(song.read(33000, 500)[:, 200:], np.zeros((2, 300), np.float32))
    assert not list(pack.rglob("*.part"))


def test_packages_without_songs(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    for package in recordings.LICENCES:
        paths.cache("debian", package).mkdir(parents=True)
    with pytest.raises(InputError, match="no songs"):
        recordings.recordings()


def test_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="no apt-get"):
        recordings.recordings()


def test_the_real_ones():
    """The rest holds no guitar: at no shift do the two tracks correlate."""
    if not all(paths.cache("debian", package).is_dir() for package in recordings.LICENCES):
        pytest.skip("the packages of recordings are not unpacked here")
    found = recordings.recordings()
    assert len(found) == 8
    guitar, rest = found[1].read(30 * 22050, 30 * 22050)
    spectra = np.fft.rfft(np.stack([guitar, rest]), 2 * len(guitar))
    cross = np.fft.irfft(spectra[0] * spectra[1].conj())
    assert np.abs(cross).max() / np.sqrt((guitar @ guitar) * (rest @ rest)) < 0.2
