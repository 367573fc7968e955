import os
import sys

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from msdm_lite.audio import io as audio_io
from msdm_lite.errors import InputError
from tests.sounds import BAD, CUT, bad_length, noise


@pytest.mark.parametrize("make", BAD, ids=lambda f: f.__name__)
def test_bad_files_get_one_clear_line(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(InputError, match=BAD[make]) as caught:
        audio_io.load(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize("make", CUT, ids=lambda f: f.__name__)
def test_what_is_there_of_a_file_is_read(tmp_path, caplog, make):
    """A file that is cut short, or that does not say how long it is, is as long as what decodes; one line says so."""
    path = make(tmp_path)
    whole = path.with_stem("whole")
    right, found = audio_io.load(whole), audio_io.load(path)
    assert CUT[make] * len(right) <= len(found) <= len(right)
    edge = len(found) - 100  # the resampler hears the end
    assert (found[:edge] - right[:edge]).abs().max() < 1e-4
    lines = [record.getMessage() for record in caplog.records if path.name in record.getMessage()]
    assert len(lines) == (0 if make is bad_length else 1)


def test_a_file_that_may_not_be_read(tmp_path):
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("this user may read everything")
    soundfile.write(tmp_path / "locked.wav", noise(), 44100)
    (tmp_path / "locked.wav").chmod(0)
    with pytest.raises(InputError, match=r"locked\.wav cannot be read \(Permission denied\)"):
        audio_io.load(tmp_path / "locked.wav")


def test_a_refusal_of_the_system_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "locked.wav", noise(), 44100)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    with pytest.raises(InputError, match=r"locked\.wav cannot be read \(Permission denied\)"):
        audio_io.load(tmp_path / "locked.wav")


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_streamed_wav_is_not_cut_short(tmp_path, size):
    """Recorders that write to a pipe cannot know the length, and put a huge one."""
    x = noise(channels=1, rate=22050)
    soundfile.write(tmp_path / "x.wav", x, 22050)
    data = bytearray((tmp_path / "x.wav").read_bytes())
    at = data.find(b"data") + 4
    data[at:at + 4] = size.to_bytes(4, "little")
    (tmp_path / "x.wav").write_bytes(data)
    assert len(audio_io.load(tmp_path / "x.wav")) == len(x)


def test_ogg_cut_between_two_pages(tmp_path, caplog):
    """All pages are whole, yet the last one is missing."""
    soundfile.write(tmp_path / "x.ogg", noise(2), 44100)
    right = audio_io.load(tmp_path / "x.ogg")
    data = (tmp_path / "x.ogg").read_bytes()
    (tmp_path / "x.ogg").write_bytes(data[:data.rfind(b"OggS")])
    found = audio_io.load(tmp_path / "x.ogg")
    assert 0.9 * len(right) < len(found) < len(right) and (found - right[: len(found)])[:-100].abs().max() < 1e-4
    assert "no last page" in caplog.text


def test_numbers_of_other_kinds(tmp_path):
    x = noise(0.1, 22050, 1)[:, 0]
    wave = torch.from_numpy(x)
    assert audio_io.samples(wave) is not None and torch.equal(audio_io.samples(wave), wave)
    assert torch.equal(audio_io.samples(x), wave) and torch.equal(audio_io.samples(x.tolist()), wave)
    assert torch.equal(audio_io.samples(x.astype(">f8")), wave)
    pcm = np.round(x * 32768).astype(np.int16)
    for source in (pcm, torch.from_numpy(pcm), pcm.tolist(), pcm.astype(np.int32) * 65536, pcm.astype(">i2")):
        assert torch.equal(audio_io.samples(source), torch.from_numpy(pcm / 32768).float())
    assert audio_io.samples(np.array([0, 128, 255], np.uint8)).tolist() == [-1, 0, 127 / 128]
    stereo = np.stack([x, -x], 1)  # as soundfile.read returns it
    assert torch.equal(audio_io.samples(stereo), torch.stack([wave, -wave]))
    before = x.copy()
    audio_io.samples(x).zero_()
    assert np.array_equal(x, before)
    for source in (["a", "b"], object(), [[1.0], [1.0, 2.0]], np.array([1j, 2j]), None):
        with pytest.raises(InputError):
            audio_io.samples(source)


def test_names_of_any_bytes_and_the_home_folder(tmp_path, monkeypatch):
    wave = noise(0.1, 22050, 1)
    name = os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "x.wav", wave, 22050, subtype="FLOAT")
    try:
        (tmp_path / "x.wav").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes text alone")
    assert torch.equal(audio_io.load(tmp_path / name), torch.from_numpy(wave[:, 0]))
    with pytest.raises(InputError) as caught:
        audio_io.load(tmp_path / ("no " + name))
    assert str(caught.value).encode() and "caf\\xe9.wav: no such file" in str(caught.value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(audio_io.load(f"~/{name}")) == len(wave)


def test_sides_that_cancel_are_said(tmp_path, caplog):
    x = noise(1, 22050, 1)
    for share, says in ((-1, "nothing"), (-0.9, "26 dB softer"), (0, ""), (0.5, "")):
        caplog.clear()
        soundfile.write(tmp_path / "x.wav", np.concatenate([x, share * x], 1), 22050, subtype="FLOAT")
        audio_io.load(tmp_path / "x.wav")
        assert says in caplog.text and bool(says) == ("cancel" in caplog.text)


def test_clipping_is_said_where_resampling_hides_it(tmp_path, caplog):
    soundfile.write(tmp_path / "x.wav", np.clip(20 * noise(1, 44100, 2), -1, 1), 44100)
    audio_io.load(tmp_path / "x.wav")
    assert "% of the samples are clipped" in caplog.text


def test_very_short_files(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.full(1, 0.5), 22050, subtype="FLOAT")
    assert audio_io.load(tmp_path / "one.wav").tolist() == [0.5]
    soundfile.write(tmp_path / "none.wav", np.full(1, 0.5), 192000)
    with pytest.raises(InputError, match="no samples at 22050 Hz"):
        audio_io.load(tmp_path / "none.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_formats_and_rates(tmp_path, suffix, rate):
    """A 440 Hz tone keeps its length, its pitch and its level."""
    t = np.arange(rate) / rate
    soundfile.write(tmp_path / f"tone.{suffix}", 0.5 * np.sin(2 * np.pi * 440 * t), rate)
    wave = audio_io.load(tmp_path / f"tone.{suffix}")
    assert wave.shape == (22050,) and wave.dtype == torch.float32
    spectrum = torch.fft.rfft(wave).abs() / 22050 * 2  # one bin a hertz
    assert spectrum.argmax() == 440
    assert abs(spectrum[440].item() - 0.5) < 0.02  # lossy codecs change the level by a few per cent


@pytest.mark.parametrize("rate", [192000, 44101, 8000, 11025, 22051, 22050])
@pytest.mark.parametrize("frames", [2, 1001, 20000])
def test_odd_rates_and_lengths(tmp_path, rate, frames):
    soundfile.write(tmp_path / "x.wav", noise(1, frames, 2), rate)
    length = round(frames * 22050 / rate)
    if length:
        assert audio_io.load(tmp_path / "x.wav").shape == (length,)
        assert audio_io.load(tmp_path / "x.wav", mono=False).shape == (2, length)
    else:
        with pytest.raises(InputError, match="no samples at 22050 Hz"):
            audio_io.load(tmp_path / "x.wav")


def test_resampling_has_no_delay_or_gain_at_odd_rates():
    """A slow pulse comes out where and as high as it went in: the formula is the right answer at any rate."""
    def pulse(rate, seconds=0.5):
        return torch.from_numpy(np.exp(-((np.arange(round(seconds * rate)) / rate - 0.2) / 0.002) ** 2))

    for rate in (8000, 44101, 48000, 192000):
        assert (audio_io.resample(pulse(rate), rate, 22050) - pulse(22050)).abs().max() < 1e-5


def test_resampling_keeps_the_rest_as_it_was():
    x = torch.randn(2, 3, 441, requires_grad=True)
    before = x.detach().clone()
    y = audio_io.resample(x, 44100, 22050)
    assert y.shape == (2, 3, round(441 / 2)) and y.is_contiguous() and y.dtype == torch.float32
    assert torch.equal(x.detach(), before)
    apart = torch.stack([audio_io.resample(row, 44100, 22050) for row in x.flatten(0, 1)]).view_as(y)
    assert torch.allclose(y, apart, atol=1e-6)
    across = x.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0)  # the same numbers, laid out otherwise
    assert torch.equal(audio_io.resample(across, 44100, 22050), y)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        z = audio_io.resample(x.to(dtype), 44100, 22050)
        assert z.dtype == dtype and (z.float() - y).abs().max() < 0.05
    assert audio_io.resample(torch.zeros(2, 0), 44100, 22050).shape == (2, 0)
    assert audio_io.resample(torch.zeros(0, 10), 44100, 22050).shape == (0, 5)
    for rate in (0, -8000):
        with pytest.raises(InputError, match="above zero"):
            audio_io.resample(x, rate, 22050)


def test_resampling_agrees_with_scipy():
    """On a band-limited sound, away from the ends, where two good filters must agree."""
    n = np.arange(44100)
    x = sum(np.sin(2 * np.pi * f * n / 44100 + f) for f in (100, 1234.5, 4000, 8000)) / 8
    ours = audio_io.resample(torch.from_numpy(x).float(), 44100, 22050).numpy()
    theirs = scipy.signal.resample_poly(x, 1, 2, window=("kaiser", 14))
    assert np.abs(ours - theirs)[500:-500].max() < 1e-3


def test_what_would_alias_is_removed():
    x = torch.from_numpy(np.sin(2 * np.pi * 15000 * np.arange(44100) / 44100)).float()
    assert audio_io.resample(x, 44100, 22050)[500:-500].abs().max() < 1e-3  # -60 dB


def test_channels_are_mixed_down_and_said_so(tmp_path, caplog):
    x = noise(channels=6, rate=22050)
    soundfile.write(tmp_path / "six.wav", x, 22050, subtype="FLOAT")
    assert np.allclose(audio_io.load(tmp_path / "six.wav").numpy(), x.mean(1), atol=1e-6)
    assert "6 channels" in caplog.text
    assert audio_io.load(tmp_path / "six.wav", mono=False).shape == (6, len(x))


def test_silence_is_said(tmp_path, caplog):
    soundfile.write(tmp_path / "silent.wav", np.zeros(3000), 22050)
    assert not audio_io.load(tmp_path / "silent.wav").any()
    assert "silent" in caplog.text


def test_what_is_saved_comes_back(tmp_path):
    x = 3 * torch.randn(4, 1000)  # far above full scale: float files do not clip
    paths = audio_io.save_stems(tmp_path / "new" / "folder", x)
    assert [p.name for p in paths] == ["bass.wav", "drums.wav", "guitar.wav", "piano.wav"]
    assert all(torch.equal(audio_io.load(p), row) for p, row in zip(paths, x, strict=True))
    quiet = 0.1 * torch.randn(500).clamp(-5, 5)
    assert (audio_io.load(audio_io.save(tmp_path / "x.flac", quiet)) - quiet).abs().max() < 2**-22  # 24 bits


@pytest.mark.parametrize("problem, raised", [(OSError(28, "No space left on device"), InputError()),
                                             (KeyboardInterrupt(), KeyboardInterrupt())], ids=["full disk", "Ctrl-C"])
def test_nothing_half_written_stays(tmp_path, monkeypatch, problem, raised):
    audio_io.save_stems(tmp_path, torch.ones(4, 10))
    real, calls = soundfile.SoundFile.write, []

    def failing(file, samples):
        calls.append(file.name)
        real(file, samples[:5])
        if len(calls) == 3:
            raise problem

    monkeypatch.setattr(soundfile.SoundFile, "write", failing)
    with pytest.raises(type(raised), match=r"No space left|^$"):
        audio_io.save_stems(tmp_path, torch.zeros(4, 10))
    assert len(calls) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bass.wav", "drums.wav", "guitar.wav", "piano.wav"]
    assert all(audio_io.load(p).eq(1).all() for p in tmp_path.iterdir())  # and what was there is untouched


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_disk_that_fills_up(tmp_path, suffix):
    """No pretence here: the system itself refuses to let the file grow."""
    import resource

    audio_io.save(tmp_path / f"x.{suffix}", torch.zeros(10))
    before = (tmp_path / f"x.{suffix}").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(InputError, match=f"x.{suffix} cannot be written"):
            audio_io.save(tmp_path / f"x.{suffix}", 0.1 * torch.randn(50000).clamp(-5, 5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == [f"x.{suffix}"]
    assert (tmp_path / f"x.{suffix}").read_bytes() == before


def test_long_ogg(tmp_path):
    """Written in one call, a few minutes of Vorbis end the process."""
    path = audio_io.save(tmp_path / "long.ogg", torch.zeros(2, 8000 * 300), 8000)
    assert soundfile.info(path).frames == 8000 * 300 and soundfile.info(path).channels == 2


def test_the_same_sound_is_the_same_bytes(tmp_path):
    """The time of day that libsndfile notes in a wav is taken out, and nothing else."""
    x = torch.randn(2, 100)
    data = audio_io.save(tmp_path / "x.wav", x, 44100).read_bytes()
    at = data.find(b"PEAK")
    assert 0 < at < data.find(b"data") and data[at + 12:at + 16] == bytes(4)
    soundfile.write(tmp_path / "y.wav", x.T.numpy(), 44100, subtype="FLOAT")
    theirs = (tmp_path / "y.wav").read_bytes()
    assert data[:at + 12] == theirs[:at + 12] and data[at + 16:] == theirs[at + 16:]


def test_saving_leaves_the_tensor_alone(tmp_path):
    x = torch.randn(100, 2, dtype=torch.float64, requires_grad=True)
    before = x.detach().clone()
    audio_io.save(tmp_path / "x.wav", x.T)
    assert torch.equal(x.detach(), before)
    assert torch.equal(audio_io.load(tmp_path / "x.wav", mono=False), before.T.float())


def test_names_that_do_not_fit(tmp_path):
    for names in (["bass", "drums"], ["bass", "drums", "bass", "piano"]):
        with pytest.raises(InputError, match="do not fit"):
            audio_io.save_stems(tmp_path / "out", torch.zeros(4, 10), names=names)
    (tmp_path / "guitar.wav").mkdir()
    with pytest.raises(InputError, match=r"guitar\.wav is there already"):
        audio_io.save_stems(tmp_path, torch.zeros(4, 10))
    assert [p.name for p in tmp_path.iterdir()] == ["guitar.wav"]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"x\.wav cannot be written \(No such file"):
        audio_io.save(tmp_path / "no" / "such" / "x.wav", torch.zeros(5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, wave, says", [("x.mp9", torch.zeros(5), "written as"),
                                              ("x.flac", torch.full((5,), 2.0), "clip"),
                                              ("x.wav", torch.zeros(1, 2, 3), "channels, time"),
                                              ("x.wav", torch.tensor([0.0, torch.nan]), "NaN")])
def test_what_cannot_be_saved(tmp_path, name, wave, says):
    with pytest.raises(InputError, match=says):
        audio_io.save(tmp_path / name, wave)
    assert not list(tmp_path.iterdir())
