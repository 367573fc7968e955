import numpy as np
import pytest
import soundfile
import torch

from msdm_lite import audio, cli, weights
from tests.test_audio import BAD, noise


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory):
    return str(weights.save(tiny, tmp_path_factory.mktemp("model") / "tiny.safetensors", {}))


def run(*args):
    return cli.main(["separate", *map(str, args)])


@pytest.mark.parametrize("suffix, rate, channels", [("wav", 22050, 1), ("flac", 44100, 2), ("ogg", 48000, 2),
                                                    ("mp3", 44100, 1), ("wav", 8000, 1), ("flac", 192000, 2),
                                                    ("wav", 44100, 6)])
def test_files_become_four_stems(tmp_path, model, suffix, rate, channels, capsys):
    soundfile.write(tmp_path / f"song.{suffix}", noise(0.3, rate, channels), rate)
    assert run(tmp_path / f"song.{suffix}", "--out", tmp_path / "stems", "--model", model) == 0
    mix = audio.load(tmp_path / f"song.{suffix}")
    stems = torch.stack([audio.load(tmp_path / "stems" / f"{name}.wav") for name in audio.STEMS])
    assert 10 * torch.log10((stems.sum(0) - mix).square().sum() / mix.square().sum()) < -60
    printed = capsys.readouterr()
    assert printed.out.count(".wav") == 4
    assert ("6 channels" in printed.err) == (channels == 6)


def test_silence_succeeds_and_is_said(tmp_path, model, capsys):
    soundfile.write(tmp_path / "silent.wav", np.zeros(5000), 22050)
    assert run(tmp_path / "silent.wav", "--out", tmp_path / "o", "--model", model) == 0
    assert "silent" in capsys.readouterr().err
    assert not audio.load(tmp_path / "o" / "piano.wav").any()


@pytest.mark.parametrize("make", BAD, ids=lambda f: f.__name__)
def test_bad_files_exit_with_2_and_one_line(tmp_path, model, make, capsys):
    path = make(tmp_path)
    assert run(path, "--out", tmp_path / "stems", "--model", model) == 2
    err = capsys.readouterr().err
    assert err.startswith("msdm-lite: ") and err.count("\n") == 1
    assert not (tmp_path / "stems").exists()


def test_bad_settings_exit_with_2_and_one_line(tmp_path, model, capsys):
    soundfile.write(tmp_path / "song.wav", noise(0.3), 44100)
    (tmp_path / "file").touch()
    song, out = tmp_path / "song.wav", tmp_path / "stems"
    (tmp_path / "other.safetensors").write_text("no model")
    for args in ((song, "--out", out, "--model", "nope"), (song, "--out", out, "--model", tmp_path / "other.safetensors"),
                 (song, "--out", out, "--model", model, "--method", "magic"),
                 (song, "--out", tmp_path / "file" / "below", "--model", model),
                 (song, "--out", out, "--model", model, "--device", "abacus"),
                 (song, "--out", out, "--model", model, "--steps", "0")):
        assert run(*args) == 2, args
        err = capsys.readouterr().err
        assert err.startswith("msdm-lite: ") and err.count("\n") == 1, err
        assert not list(tmp_path.rglob("bass.wav"))


def test_too_short_exits_with_2(tmp_path, model, capsys):
    soundfile.write(tmp_path / "blip.wav", noise(0.05), 44100)
    assert run(tmp_path / "blip.wav", "--out", tmp_path / "o", "--model", model) == 2
    assert "too short" in capsys.readouterr().err


def test_same_seed_same_bytes(tmp_path, model):
    soundfile.write(tmp_path / "song.wav", noise(0.3), 44100)
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / "song.wav", "--out", tmp_path / out, "--model", model, "--steps", "2", "--seed", seed)
    a, b, c = ((tmp_path / x / "bass.wav").read_bytes() for x in "abc")
    assert a == b != c


def test_interruption_leaves_nothing(tmp_path, model, monkeypatch, capsys):
    soundfile.write(tmp_path / "song.wav", noise(0.3), 44100)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("msdm_lite.model.Model.denoise", interrupted)
    assert run(tmp_path / "song.wav", "--out", tmp_path / "o", "--model", model) == 130
    assert not list(tmp_path.rglob("*bass*"))


@pytest.mark.parametrize("command", ["separate", "train", "evaluate", "data"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0 and "usage: msdm-lite" in capsys.readouterr().out
