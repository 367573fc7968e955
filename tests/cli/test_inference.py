import inspect
import io
import os
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import msdm_lite
from msdm_lite.audio import io as audio_io
from msdm_lite.cli import inference, main
from msdm_lite.models import weights
from msdm_lite.utils import files as utils_files
from msdm_lite.utils import manifest
from tests.sounds import ONE_OF_EACH, bad_text, noise


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory):
    return str(weights.save(tiny, tmp_path_factory.mktemp("model") / "tiny.safetensors", {}))


@pytest.mark.parametrize("verb", [inference.separate, inference.generate, inference.accompany])
def test_the_verbs_share_what_is_common_to_them(verb):
    found = inspect.signature(verb).parameters
    assert {"out", "model", "steps", "seed", "device", "overwrite"} <= set(found)
    assert found["seed"].default == 0 and found["overwrite"].default is False


def run(*args):
    return main.main(["separate", *map(str, args)])


@pytest.mark.parametrize("suffix, rate, channels", [("wav", 22050, 1), ("flac", 44100, 2), ("ogg", 48000, 2),
                                                    ("mp3", 44100, 1), ("wav", 8000, 1), ("flac", 192000, 2),
                                                    ("wav", 44100, 6)])
def test_files_become_four_stems(tmp_path, model, suffix, rate, channels, capsys):
    soundfile.write(tmp_path / f"song.{suffix}", noise(0.3, rate, channels), rate)
    assert run(tmp_path / f"song.{suffix}", "--out", tmp_path / "stems", "--model", model) == 0
    mix = audio_io.load(tmp_path / f"song.{suffix}")
    stems = torch.stack([audio_io.load(tmp_path / "stems" / f"{name}.wav") for name in audio_io.STEMS])
    assert 10 * torch.log10((stems.sum(0) - mix).square().sum() / mix.square().sum()) < -60
    printed = capsys.readouterr()
    assert printed.out.count(".wav") == 4
    assert ("6 channels" in printed.err) == (channels == 6)


def test_silence_succeeds_and_is_said(tmp_path, model, capsys):
    soundfile.write(tmp_path / "silent.wav", np.zeros(5000), 22050)
    assert run(tmp_path / "silent.wav", "--out", tmp_path / "o", "--model", model) == 0
    assert "silent" in capsys.readouterr().err
    assert not audio_io.load(tmp_path / "o" / "piano.wav").any()


@pytest.mark.parametrize("make", ONE_OF_EACH, ids=lambda f: f.__name__)
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
    for args in ((song, "--out", out, "--model", "nope"),
                 (song, "--out", out, "--model", tmp_path / "other.safetensors"),
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

    monkeypatch.setattr("msdm_lite.models.joint.Model.denoise", interrupted)
    assert run(tmp_path / "song.wav", "--out", tmp_path / "o", "--model", model) == 130
    assert not list(tmp_path.rglob("*bass*"))


def stem(folder, name, seconds=0.3, rate=44100):
    soundfile.write(folder / name, noise(seconds, rate), rate)
    return folder / name


def accompany(*args):
    return main.main(["accompany", *map(str, args)])


def generate(*args):
    return main.main(["generate", *map(str, args)])


def test_stems_are_added_to_files_of_any_rate_and_length(tmp_path, model, capsys):
    bass, kick = stem(tmp_path, "bass.flac", 0.3, 48000), stem(tmp_path, "kick.wav", 0.2, 8000)
    assert accompany(bass, f"drums={kick}", "--out", tmp_path / "band", "--model", model, "--steps", 3) == 0
    printed = capsys.readouterr()
    assert printed.out.count(".wav") == 5 and "drums is 0.10 s shorter" in printed.err
    band = torch.stack([audio_io.load(tmp_path / "band" / f"{name}.wav") for name in audio_io.STEMS])
    assert band.shape == (4, 6615) and (band.square().mean(1) > 0).all()
    assert torch.equal(band[0], audio_io.load(bass))
    assert torch.allclose(audio_io.load(tmp_path / "band" / "mix.wav"), band.sum(0), atol=1e-6)


def test_bands_are_generated(tmp_path, model, capsys):
    assert generate("--out", tmp_path / "bands", "--model", model, "--seconds", 0.5, "--n", 2, "--steps", 3) == 0
    assert capsys.readouterr().out.count("bands/0") == 2
    assert len(list((tmp_path / "bands").glob("0[12]/*.wav"))) == 10
    assert len(audio_io.load(tmp_path / "bands" / "02" / "mix.wav")) == 11025


def test_bands_that_are_made_are_kept_when_it_is_stopped(tmp_path, model, monkeypatch):
    from msdm_lite.inference import encoding, generation

    real, made = encoding.decode, []

    def stopped(*args):
        if made:
            raise KeyboardInterrupt
        made.append(1)
        return real(*args)

    monkeypatch.setattr(generation, "decode", stopped)
    assert generate("--out", tmp_path / "bands", "--model", model, "--seconds", 0.5, "--n", 2, "--steps", 3) == 130
    assert len(list((tmp_path / "bands" / "01").glob("*.wav"))) == 5 and not (tmp_path / "bands" / "02").exists()


def test_settings_on_the_command_line_reach_the_method(tmp_path, model):
    song = stem(tmp_path, "song.wav")
    drums = stem(tmp_path, "drums.wav")
    assert run(song, "--out", tmp_path / "o", "--model", model, "--method", "dirac", "--steps", 4, "--churn", 1,
               "--corrections", 1, "--sigma-max", 0.5, "--sigma-min", 0.01, "--sampler", "heun", "--samples", 2,
               "--given", drums) == 0
    assert torch.equal(audio_io.load(tmp_path / "o" / "drums.wav"), audio_io.load(drums))


def test_stereo_in_is_stereo_out_at_the_rate_of_the_input(tmp_path, model):
    """--stereo is what holds without it; --mono separates the mean."""
    mix = 0.1 * torch.randn(2, 22050).clamp(-4, 4)
    audio_io.save(tmp_path / "song.wav", mix, 44100)
    for extra, expected in (((), mix), (("--stereo",), mix), (("--mono",), mix.mean(0, keepdim=True))):
        assert run(tmp_path / "song.wav", "--out", tmp_path / "o", "--model", model, *extra) == 0
        stems = torch.stack([audio_io.load(tmp_path / "o" / f"{name}.wav", 44100, False) for name in audio_io.STEMS])
        assert stems.shape == (4, *expected.shape)
        assert (stems.sum(0) - expected).abs().max() < 1e-5
        assert soundfile.info(tmp_path / "o" / "bass.wav").samplerate == 44100
    assert run(tmp_path / "song.wav", "--out", tmp_path / "p", "--model", model, "--mono", "--stereo") == 2


def test_nothing_of_the_users_is_written_over(tmp_path, model, capsys):
    """Own stems in the folder of the results, as people have them; also a result that was edited since."""
    mine = {name: stem(tmp_path, f"{name}.wav", 0.3 + 0.1 * n).read_bytes() for n, name in enumerate(audio_io.STEMS)}
    song = stem(tmp_path, "song.wav")
    out = ("--out", tmp_path, "--model", model)

    def refused(command, *args):
        assert command(*args) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
        assert {name: (tmp_path / f"{name}.wav").read_bytes() for name in mine} == mine
        return err

    assert "bass.wav is there already, and was not made by msdm-lite" in refused(run, song, *out)
    assert "bass.wav is an input" in refused(run, tmp_path / "bass.wav", *out, "--overwrite")
    assert "drums.wav is an input" in refused(run, song, *out, "--given", tmp_path / "drums.wav", "--overwrite",
                                              "--two-stems", "drums")
    assert "drums.wav is an input" in refused(accompany, tmp_path / "drums.wav", *out, "--overwrite")
    assert run(song, *out, "--overwrite") == 0 and run(song, *out) == 0  # now they are results
    made = (tmp_path / "piano.wav").read_bytes()
    assert made != mine["piano"]
    (tmp_path / "piano.wav").write_bytes(mine["piano"])
    assert run(song, *out) == 2 and "piano.wav has changed since" in capsys.readouterr().err
    assert generate("--out", tmp_path / "g", "--model", model, "--seconds", 0.5, "--steps", 2) == 0
    stem(tmp_path / "g" / "01", "mix.wav")
    assert generate("--out", tmp_path / "g", "--model", model, "--seconds", 0.5, "--steps", 2) == 2
    assert "01/mix.wav has changed since" in capsys.readouterr().err


def test_the_manifest_says_how_it_was_made(tmp_path, model):
    song = stem(tmp_path, "song.wav")
    assert run(song, "--out", tmp_path / "o", "--model", model, "--seed", 7) == 0
    entry, = manifest.runs(tmp_path / "o")
    assert entry["command"] == shlex.join(["msdm-lite", "separate", str(song), "--out", str(tmp_path / "o"), "--model",
                                           model, "--seed", "7"])
    assert (entry["inputs"], entry["seed"], entry["model"]) == ([str(song)], 7, model)
    assert entry["version"] == msdm_lite.__version__
    assert entry["outputs"] == {f"{name}.wav": manifest.sha256(tmp_path / "o" / f"{name}.wav")
                                for name in audio_io.STEMS}


def test_several_files_get_a_folder_each_and_a_bad_one_does_not_stop_the_rest(tmp_path, model, capsys):
    music = tmp_path / "music"
    (music / "live").mkdir(parents=True)
    songs = [stem(music, "a.wav"), bad_text(music), stem(music, "b.flac"), stem(music / "live", "a.wav", 0.2)]
    assert run(*songs, "--out", tmp_path / "o", "--model", model) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "text.wav" in printed.err and printed.out.count(".wav") == 12
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a", "a-2", "b"]
    assert len(audio_io.load(tmp_path / "o" / "a-2" / "bass.wav")) == 4410
    songs[1].unlink()
    assert run(music, "--out", tmp_path / "p", "--model", model) == 0  # a folder stands for its files
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["a", "b"]
    stem(tmp_path / "p" / "b", "drums.wav")
    assert run(music, "--out", tmp_path / "p", "--model", model) == 2  # before anything is computed
    assert "b/drums.wav has changed" in capsys.readouterr().err
    assert run(songs[0], songs[2], "--out", tmp_path / "q", "--model", model, "--given", "drums=x.wav") == 2
    assert "stems are given of one mix" in capsys.readouterr().err


def test_standard_input(tmp_path, model, monkeypatch, capsys):
    song = stem(tmp_path, "song.flac")
    for data, code in ((song.read_bytes(), 0), (b"", 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert run("-", "--out", tmp_path / "o", "--model", model) == code
    assert len(audio_io.load(tmp_path / "o" / "bass.wav")) == 6615
    assert "standard input is empty" in capsys.readouterr().err


def test_formats_bits_tags_and_two_stems(tmp_path, model, capsys):
    loud = 1.5 * torch.sin(0.05 * torch.arange(13230))
    audio_io.save_all({tmp_path / "song.wav": loud}, 44100, tags={"title": "Song", "artist": "Someone"})
    args = (tmp_path / "song.wav", "--out", tmp_path / "o", "--model", model)
    assert run(*args, "--format", "flac", "--bits", 16, "--two-stems", "drums", "--rate", 48000) == 0
    assert "softer than the input, so that none of them clips" in capsys.readouterr().err
    files = [soundfile.SoundFile(tmp_path / "o" / f"{name}.flac") for name in ("drums", "rest")]
    assert [(file.samplerate, file.subtype, file.title, file.artist) for file in files] == [
        (48000, "PCM_16", "Song", "Someone")] * 2
    whole = sum(file.read() for file in files)
    expected = audio_io.load(tmp_path / "song.wav", 48000).numpy()
    gain = (whole @ expected) / (expected @ expected)
    assert gain < 0.9 and np.abs(whole - gain * expected).max() < 1e-4
    assert run(*args, "--rate", "model") == 0 and capsys.readouterr().err == ""
    assert soundfile.info(tmp_path / "o" / "bass.wav").samplerate == 22050
    for extra in (("--format", "flac", "--bits", "float"), ("--bits", "8"), ("--rate", "fast"), ("--rate", 10**9),
                  ("--two-stems", "flute"), ("--format", "mp3", "--rate", 96000)):
        assert run(*args, *extra) == 2, extra
        assert capsys.readouterr().err.count("\n") == 1


def test_given_stems_before_and_behind_the_mix(tmp_path, model):
    song, drums = stem(tmp_path, "song.wav"), stem(tmp_path, "My Drums.wav", 0.3, 48000)
    end = ("--out", tmp_path / "o", "--model", model)
    made = []
    for args in ((song, "--given", drums, *end), ("--given", drums, song, *end), (*end, "--given", drums, song),
                 ("--given", f"Drums={drums}", *end, song)):
        assert run(*args) == 0
        made.append((tmp_path / "o" / "bass.wav").read_bytes())
    assert len(set(made)) == 1


def test_the_folder_of_a_training_run_is_a_model(tmp_path, model):
    (tmp_path / "runs").mkdir()
    shutil.copy(model, tmp_path / "runs" / "tiny.safetensors")
    (tmp_path / "runs" / "checkpoint.pt").touch()
    song = stem(tmp_path, "song.wav")
    for name, which in (("a", model), ("b", tmp_path / "runs")):
        assert run(song, "--out", tmp_path / name, "--model", which) == 0
    assert (tmp_path / "a" / "bass.wav").read_bytes() == (tmp_path / "b" / "bass.wav").read_bytes()


@pytest.mark.parametrize("args", [
    ("generate", "--seconds", "1e9"), ("generate", "--seconds", "nan"), ("generate", "--seconds", "inf"),
    ("generate", "--seconds", "-1"), ("generate", "--n", str(10**9)), ("generate", "--seed", str(2**64)),
    ("generate", "--seed", "-1"), ("generate", "--steps", "0"), ("generate", "--steps", str(10**12)),
    ("generate", "--device", "meta"), ("generate", "--device", "cuda:99"), ("generate", "--batch", "0"),
    ("generate", "--churn", "nan"), ("generate", "--sigma-max", "inf"), ("generate", "--sigma-min", "-1"),
    ("separate", "bass.wav", "--seed", str(2**70)), ("separate", "bass.wav", "--steps", str(10**12)),
    ("separate", "bass.wav", "--churn", "inf"), ("separate", "bass.wav", "--samples", "-1"),
    ("separate", "bass.wav", "--sigma-max", "nan"), ("separate", "bass.wav", "--device", "meta"),
    ("separate", "bass.wav", "--corrections", "-3"), ("separate", "bass.wav", "--rate", "nan"),
    ("accompany", "bass.wav", "--seed", "-5"), ("accompany", "bass.wav", "--weight", "nan"),
    ("accompany", "bass.wav", "--weight", "inf"), ("accompany", "bass.wav", "--steps", "-2")],
    ids=lambda args: " ".join(args))
def test_numbers_out_of_reason_are_refused_in_one_line(tmp_path, model, monkeypatch, capsys, args):
    stem(tmp_path, "bass.wav")
    monkeypatch.chdir(tmp_path)
    assert main.main([*args, "--out", "o", "--model", model]) == 2
    err = capsys.readouterr().err
    assert err.startswith("msdm-lite: ") and err.count("\n") == 1 and "Error" not in err, err
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_are_no_text(tmp_path, model, capsys):
    song = stem(tmp_path, "song.wav")
    odd = [tmp_path / os.fsdecode(name) for name in (b"caf\xe9.wav", b"caf\xe8.wav")]
    try:
        for path in odd:
            shutil.copy(song, path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert run(*odd, "--out", tmp_path / "o", "--model", model) == 0
    assert "caf\\xe9/bass.wav" in capsys.readouterr().out.replace(os.sep, "/")
    assert len(list((tmp_path / "o").glob("*/bass.wav"))) == 2


def test_a_full_disk_while_renaming_leaves_the_folder_as_it_was(tmp_path, model, monkeypatch, capsys):
    song, out = stem(tmp_path, "song.wav"), tmp_path / "o"
    assert run(song, "--out", out, "--model", model) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real = Path.replace

    def failing(self, target):
        if Path(target).name == "guitar.wav":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    assert run(song, "--out", out, "--model", model, "--steps", 3, "--seed", 1) == 2
    assert "guitar.wav cannot be written (No space left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("make", ONE_OF_EACH, ids=lambda f: f.__name__)
def test_bad_stems_exit_with_2_and_one_line(tmp_path, model, make, capsys):
    path, good = make(tmp_path), stem(tmp_path, "bass.wav")
    for args in (("accompany", f"drums={path}", good), ("separate", good, "--given", f"drums={path}")):
        assert main.main([*map(str, args), "--out", str(tmp_path / "band"), "--model", model]) == 2
        err = capsys.readouterr().err
        assert err.startswith("msdm-lite: ") and err.count("\n") == 1, err
        assert not (tmp_path / "band").exists()


def test_bands_that_cannot_be_exit_with_2_and_one_line(tmp_path, model, capsys):
    files = {name: stem(tmp_path, f"{name}.wav") for name in (*audio_io.STEMS, "flute")}
    out = ("--out", tmp_path / "band", "--model", model)
    long = stem(tmp_path, "long.wav", 1.0)
    for command, args, says in (
            (accompany, (*(files[name] for name in audio_io.STEMS), *out), "all stems are given"),
            (accompany, (files["flute"], *out), "no stem 'flute'"),
            (accompany, (files["bass"], f"bass={files['drums']}", *out), "given twice"),
            (accompany, (files["bass"], *out, "--method", "dirac"), "no method 'dirac'"),
            (accompany, (files["bass"], *out, "--steps", 0), "no schedule"),
            (accompany, (files["bass"], *out, "--sigma-max", 0.001), "no schedule"),
            (accompany, (files["bass"], *out, "--churn", -1), "churn"),
            (generate, (*out, "--seconds", 0), "cannot be made"), (generate, (*out, "--n", 0), "cannot be made"),
            (generate, (*out, "--method", "dirac"), "no method 'dirac'"),
            (generate, (*out, "--metre", 3), "tempo and metre need"), (generate, (*out, "--churn", 3), "euler does"),
            (accompany, (files["bass"], *out, "--method", "replacement", "--sampler", "dpm-solver"), "euler does"),
            (generate, (*out, "--sigma-min", 100), "no schedule"),
            (generate, (*out, "--sigma-max", "nan"), "no schedule"),
            (run, (files["bass"], *out, "--given", long), "as long as the mixture"),
            (run, (files["bass"], *out, "--samples", 0), "1 or more"),
            (run, (files["bass"], *out, "--sampler", "magic"), "no sampler"),
            (run, (files["bass"], *out, "--method", "guided"), "guided is not for it"),
            (run, (files["bass"], *out, "--corrections", 0), "at least 1"),
            (run, (files["bass"], *out, "--sigma-max", 1e-5), "no schedule")):
        if says == "as long as the mixture":
            args = (*args[:-1], f"drums={long}")
        assert command(*args) == 2, args
        err = capsys.readouterr().err
        assert err.startswith("msdm-lite: ") and err.count("\n") == 1 and says in err, err
        assert not (tmp_path / "band").exists(), args
    assert accompany(*out) == 2 and "no stem is given" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("generate", "--seconds", "0.5"), ("accompany", "bass.wav"),
                                     ("separate", "bass.wav")])
def test_a_broken_or_interrupted_network_leaves_nothing(tmp_path, model, monkeypatch, capsys, command):
    stem(tmp_path, "bass.wav")
    monkeypatch.chdir(tmp_path)

    def broken(self, x, sigma, conditioning=None):
        return x * torch.nan

    def interrupted(*args):
        raise KeyboardInterrupt

    for denoise, code, says in ((broken, 2, "not finite at sigma = 10"), (interrupted, 130, "interrupted")):
        monkeypatch.setattr("msdm_lite.models.joint.Model.denoise", denoise)
        assert main.main([*command, "--out", "new/band", "--model", model]) == code
        assert says in capsys.readouterr().err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bass.wav"]


def test_two_runs_into_one_folder(tmp_path, model, capsys):
    """One after the other: the second replaces the first. At once: the second is refused, and the first not harmed."""
    song, out = stem(tmp_path, "song.wav"), tmp_path / "o"
    for seed in (1, 2):
        assert run(song, "--out", out, "--model", model, "--steps", 2, "--seed", seed) == 0
        first = (out / "bass.wav").read_bytes()
    assert sorted(p.name for p in out.iterdir()) == ["bass.wav", "drums.wav", "guitar.wav", "msdm-lite.json",
                                                     "piano.wav"]
    with utils_files.claimed(out):
        assert run(song, "--out", out, "--model", model, "--steps", 2, "--seed", 1) == 2
    assert "another run" in capsys.readouterr().err and (out / "bass.wav").read_bytes() == first
