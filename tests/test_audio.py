import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from msdm_lite import audio
from msdm_lite.errors import InputError

RNG = np.random.default_rng(0)


def noise(seconds=0.5, rate=44100, channels=2):
    return (0.1 * RNG.standard_normal((int(seconds * rate), channels))).astype(np.float32)


def bad_nothing(p):
    return p / "nothing.wav"


def bad_folder(p):
    (p / "folder.wav").mkdir()
    return p / "folder.wav"


def bad_empty(p):
    (p / "empty.wav").touch()
    return p / "empty.wav"


def bad_text(p):
    (p / "text.wav").write_text("this is not sound\n" * 50)
    return p / "text.wav"


def bad_flac(p):
    soundfile.write(p / "whole.flac", noise(3), 44100)
    (p / "cut.flac").write_bytes((p / "whole.flac").read_bytes()[:-2000])
    return p / "cut.flac"


def bad_wav(p):
    soundfile.write(p / "whole.wav", noise(), 44100)
    (p / "cut.wav").write_bytes((p / "whole.wav").read_bytes()[:-500])
    return p / "cut.wav"


def bad_zero(p):
    soundfile.write(p / "zero.wav", np.zeros((0, 1)), 22050)
    return p / "zero.wav"


def bad_nan(p):
    x = noise()
    x[7] = np.nan
    soundfile.write(p / "nan.wav", x, 44100, subtype="FLOAT")
    return p / "nan.wav"


def bad_inf(p):
    x = noise()
    x[7, 1] = -np.inf
    soundfile.write(p / "inf.wav", x, 44100, subtype="FLOAT")
    return p / "inf.wav"


BAD = {bad_nothing: "no such file", bad_folder: "is a folder", bad_empty: "is empty", bad_text: "cannot be read",
       bad_flac: "cannot be read|cut short", bad_wav: "cut short", bad_zero: "no samples", bad_nan: "NaN or infinite",
       bad_inf: "NaN or infinite"}


@pytest.mark.parametrize("make", BAD, ids=lambda f: f.__name__)
def test_bad_files_get_one_clear_line(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(InputError, match=BAD[make]) as caught:
        audio.load(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_formats_and_rates(tmp_path, suffix, rate):
    """A 440 Hz tone keeps its length, its pitch and its level."""
    t = np.arange(rate) / rate
    soundfile.write(tmp_path / f"tone.{suffix}", 0.5 * np.sin(2 * np.pi * 440 * t), rate)
    wave = audio.load(tmp_path / f"tone.{suffix}")
    assert wave.shape == (22050,) and wave.dtype == torch.float32
    spectrum = torch.fft.rfft(wave).abs() / 22050 * 2  # one bin a hertz
    assert spectrum.argmax() == 440
    assert abs(spectrum[440].item() - 0.5) < 0.02  # lossy codecs change the level by a few per cent


@pytest.mark.parametrize("rate", [192000, 44101])
def test_odd_rates(tmp_path, rate):
    soundfile.write(tmp_path / "x.wav", noise(1, rate, 1), rate)
    assert audio.load(tmp_path / "x.wav").shape == (22050,)


def test_resampling_agrees_with_scipy():
    """On a band-limited sound, away from the ends, where two good filters must agree."""
    n = np.arange(44100)
    x = sum(np.sin(2 * np.pi * f * n / 44100 + f) for f in (100, 1234.5, 4000, 8000)) / 8
    ours = audio.resample(torch.from_numpy(x).float(), 44100, 22050).numpy()
    theirs = scipy.signal.resample_poly(x, 1, 2, window=("kaiser", 14))
    assert np.abs(ours - theirs)[500:-500].max() < 1e-3


def test_what_would_alias_is_removed():
    x = torch.from_numpy(np.sin(2 * np.pi * 15000 * np.arange(44100) / 44100)).float()
    assert audio.resample(x, 44100, 22050)[500:-500].abs().max() < 1e-3  # -60 dB


def test_channels_are_mixed_down_and_said_so(tmp_path, caplog):
    x = noise(channels=6, rate=22050)
    soundfile.write(tmp_path / "six.wav", x, 22050, subtype="FLOAT")
    assert np.allclose(audio.load(tmp_path / "six.wav").numpy(), x.mean(1), atol=1e-6)
    assert "6 channels" in caplog.text
    assert audio.load(tmp_path / "six.wav", mono=False).shape == (6, len(x))


def test_silence_is_said(tmp_path, caplog):
    soundfile.write(tmp_path / "silent.wav", np.zeros(3000), 22050)
    assert not audio.load(tmp_path / "silent.wav").any()
    assert "silent" in caplog.text


def test_what_is_saved_comes_back(tmp_path):
    x = 3 * torch.randn(4, 1000)  # far above full scale: float files do not clip
    paths = audio.save_stems(tmp_path / "new" / "folder", x)
    assert [p.name for p in paths] == ["bass.wav", "drums.wav", "guitar.wav", "piano.wav"]
    assert all(torch.equal(audio.load(p), row) for p, row in zip(paths, x, strict=True))
    quiet = 0.1 * torch.randn(500).clamp(-5, 5)
    assert (audio.load(audio.save(tmp_path / "x.flac", quiet)) - quiet).abs().max() < 2**-22  # 24 bits


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    audio.save_stems(tmp_path, torch.ones(4, 10))
    real, calls = soundfile.write, []

    def failing(path, *args, **kwargs):
        calls.append(path)
        real(path, *args, **kwargs)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", failing)
    with pytest.raises(InputError, match="No space left"):
        audio.save_stems(tmp_path, torch.zeros(4, 10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bass.wav", "drums.wav", "guitar.wav", "piano.wav"]
    assert all(audio.load(p).eq(1).all() for p in tmp_path.iterdir())  # and what was there is untouched


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError):
            audio.writable_folder(folder)
    with pytest.raises(InputError, match="cannot be written"):
        audio.save(tmp_path / "no" / "such" / "x.wav", torch.zeros(5))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name, wave, says", [("x.mp9", torch.zeros(5), "written as"),
                                              ("x.flac", torch.full((5,), 2.0), "clip"),
                                              ("x.wav", torch.tensor([0.0, torch.nan]), "NaN")])
def test_what_cannot_be_saved(tmp_path, name, wave, says):
    with pytest.raises(InputError, match=says):
        audio.save(tmp_path / name, wave)
    assert not list(tmp_path.iterdir())


def test_mixture_is_the_sum():
    x = torch.randn(2, 4, 10)
    assert torch.equal(audio.mixture(x), x[:, 0] + x[:, 1] + x[:, 2] + x[:, 3])
