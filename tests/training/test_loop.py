import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msdm_lite.audio.transforms import MDCT
from msdm_lite.data.dataset import songs_of
from msdm_lite.errors import InputError
from msdm_lite.models import config, weights
from msdm_lite.models.base import TASKS, StemModel
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
from msdm_lite.models.unet1d import UNet1dConfig
from msdm_lite.training import batches as training_batches
from msdm_lite.training import loop, step, validation
from msdm_lite.utils import files
from tests.conftest import lines, losses
from tests.training.test_statistics import Noise

COMMAND = [sys.executable, str(Path(__file__).with_name("quick_command.py")), "train", "--preset", "tiny",
           "--log-every",
           "1", "--device", "cpu"]


def test_training_learns_logs_and_ships(recipe, tmp_path):
    path = loop.train(replace(recipe, steps=60, lr=3e-3), tmp_path / "run", progress=False)
    model = weights.load(path)
    assert model.record["steps"] == 60 and model.record["songs"] == 3 and model.record["command"].endswith("--steps 60")
    assert model.record["recipe"]["sigma_free"] == [-1.2, 1.4]  # what was left open is said
    found = losses(tmp_path / "run")
    assert list(found) == list(range(1, 61)) and np.isfinite(list(found.values())).all()
    # clicks and hiss have one long-term spectrum: the Wiener filter cannot tell them apart, 60 steps of training can
    start = Model(preset("tiny"), model.denoiser.std)
    last = lines(tmp_path / "run")[-1]
    measured = validation.Validation(start, songs_of(recipe.data, "val"), count=1)(start)
    assert last["val_known_1.0"] < 0.9 * measured["known_1.0"]
    assert last["raw_known_1.0"] != last["val_known_1.0"]  # the last weights, and their average
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_every_checkpoint_comes_with_the_weights_so_far(recipe, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(weights, "save", lambda model, path, record: kept.append(record["steps"]))
    loop.train(recipe, tmp_path / "run", progress=False, checkpoint_minutes=0)
    assert kept == [1, 2, 3, 4, 5, 6]


def test_the_number_of_validation_crops(recipe, stems, tmp_path, monkeypatch):
    """It reaches the validation; less than one, and no worker, are refused before a folder is made."""
    counts = []
    monkeypatch.setattr(loop, "Validation", lambda *settings: counts.append(settings[2]) or validation.Validation(
        *settings[:2], count=1))
    loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False, validation_crops=7)
    assert counts == [7]
    for settings in ({"validation_crops": 0}, {"workers": 0}):
        with pytest.raises(InputError, match="1 or more"):
            loop.train(recipe, tmp_path / "none", progress=False, **settings)
    assert not (tmp_path / "none").exists()


def test_models_of_one_stem_each_are_a_bundle(recipe, tmp_path):
    for name in ("bass", "drums"):
        path = loop.train(replace(recipe, stems=(name,), steps=2), tmp_path / name, progress=False)
        assert path.name == f"{name}.safetensors"
        path.rename(tmp_path / path.name)
        assert "val_free_1.0" in (last := lines(tmp_path / name)[-1])
        assert not {"val_known_1.0", "val_si_sdr_improvement"} & set(last)  # one stem alone separates nothing
    bundle = weights.load(tmp_path)
    assert bundle.stems == ("bass", "drums")
    assert bundle.record["models"]["bass"]["recipe"]["shapes"] == [1, 0, 0, 0]
    assert bundle.record["models"]["bass"]["command"].startswith("msdm-lite train --preset tiny --data")
    assert "--stems bass" in bundle.record["models"]["bass"]["command"]


@pytest.mark.parametrize("task, shapes, measured", [("separate", [0, 1, 0, 0], {"known"}),
                                                    ("guided", [0.3, 0.7, 0, 0], {"known", "free"})])
def test_other_tasks_are_trained_by_the_same_loop(recipe, tmp_path, monkeypatch, task, shapes, measured):
    monkeypatch.setitem(config.PRESETS, "other", replace(config.PRESETS["tiny"], preset="other", task=task))
    path = loop.train(replace(recipe, preset="other", steps=30, lr=3e-3), tmp_path / "run", progress=False)
    made = weights.load(path)
    assert made.config.task == task and made.record["recipe"]["shapes"] == shapes
    last = lines(tmp_path / "run")[-1]
    assert {key.split("_")[1] for key in last if key.startswith("val_") and key[-1].isdigit()} == measured
    start = weights.build(made.config)
    start.denoiser.std.copy_(made.denoiser.std)
    measured_at_start = validation.Validation(start, songs_of(recipe.data, "val"), count=1)(start)
    assert last["val_known_1.0"] < 0.95 * measured_at_start["known_1.0"]


def test_the_board_has_what_the_log_has(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop.train(replace(recipe, steps=3), tmp_path / "run", progress=False)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [e.value for e in board.Scalars("loss")] == pytest.approx(list(losses(tmp_path / "run").values()), rel=1e-5)
    assert "val/si_sdr_improvement" in board.Tags()["scalars"] and "raw/known_1.0" in board.Tags()["scalars"]


def launch(args, folder, processes=1):
    """The command as a user gives it, with one thread a process."""
    command = COMMAND if processes == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone",
                                              "--nproc_per_node", str(processes), *COMMAND[1:]]
    return subprocess.Popen([*command, *map(str, args), "--out", str(folder)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_after_kill_9_a_run_goes_on_as_if_it_had_never_stopped(stems, tmp_path):
    args = ["--data", stems, "--steps", "12", "--batch", "2"]
    whole = launch(args, tmp_path / "whole")
    cut = launch([*args, "--checkpoint-minutes", "0"], tmp_path / "cut")
    deadline = time.time() + 120
    while time.time() < deadline and (not (tmp_path / "cut" / "checkpoint.pt").exists()
                                      or len(losses(tmp_path / "cut")) < 4):
        time.sleep(0.05)
    os.kill(cut.pid, signal.SIGKILL)
    cut.wait()
    assert whole.wait() == 0 and cut.returncode == -signal.SIGKILL
    done = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < done < 12
    again = launch([*args, "--resume"], tmp_path / "cut")
    assert again.wait() == 0, again.stderr.read()
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)  # every step, none twice
    assert sum("loss" in line for line in lines(tmp_path / "cut")) == 12
    a, b = (weights.load(tmp_path / run / "tiny.safetensors").state_dict() for run in ("whole", "cut"))
    assert all(torch.allclose(a[key], b[key], atol=1e-3) for key in a)  # half precision


def test_two_processes_one_process_and_accumulation_are_the_same_training(stems, tmp_path):
    args = ["--data", stems, "--steps", "5", "--lr", "0.05"]  # warm-up keeps five steps small
    runs = {"one": launch([*args, "--batch", "4"], tmp_path / "one"),
            "accumulated": launch([*args, "--batch", "2", "--accumulate", "2"], tmp_path / "accumulated"),
            "two": launch([*args, "--batch", "2"], tmp_path / "two", processes=2),
            # the control: what two without exchange would do
            "half": launch([*args, "--batch", "2"], tmp_path / "half")}
    for name, run in runs.items():
        out, err = run.communicate()
        assert run.returncode == 0, err
        assert out.split() == [str(tmp_path / name / "tiny.safetensors")]  # said once
    one = losses(tmp_path / "one")
    # bf16, where a processor has it, rounds a batch of two otherwise than one of four
    assert losses(tmp_path / "accumulated") == pytest.approx(one, rel=1e-3)
    assert losses(tmp_path / "two") == pytest.approx(one, rel=1e-3)
    assert json.loads((tmp_path / "two" / "tiny.json").read_text())["processes"] == 2
    states = {name: torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in runs}

    def apart(name: str) -> float:
        """Distance of a run's weights from those of the first run."""
        return sum(float((value - states[name][key]).square().sum()) for key, value in states["one"].items()) ** 0.5

    assert apart("half") > 0.01
    assert max(apart("two"), apart("accumulated")) < 0.05 * apart("half")


def test_ctrl_c_leaves_a_checkpoint_of_the_step_it_came_in(stems, tmp_path):
    run = launch(["--data", stems, "--steps", "500", "--batch", "2"], tmp_path / "run")
    deadline = time.time() + 120
    while time.time() < deadline and not (
            (tmp_path / "run" / "log.jsonl").exists() and len(losses(tmp_path / "run")) > 2):
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and "interrupted" in err and "Traceback" not in err
    step = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    assert step == max(losses(tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops_with_step_and_batch_named(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "loss", lambda self, x, *a: self.denoiser.net.parameters().__next__().sum()
                        * torch.full((len(x),), torch.nan))
    with pytest.raises(FloatingPointError, match=r"step 0 is nan; .*song[123] at \d+.*sigma"):
        loop.train(recipe, tmp_path / "run", progress=False)


def test_songs_for_validation_are_missed_before_the_work(recipe, tmp_path):
    place = tmp_path / "songs" / "train" / "one"
    place.mkdir(parents=True)
    for source in (Path(recipe.data) / "song0").iterdir():
        (place / source.name).write_bytes(source.read_bytes())
    with pytest.raises(InputError, match="no songs of the split 'val'"):
        loop.train(replace(recipe, data=str(tmp_path / "songs")), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_songs_that_are_not_rendered(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="data build"):
        loop.train(replace(recipe, data="band"), tmp_path / "run", progress=False)


def test_two_runs_do_not_share_a_folder(recipe, tmp_path):
    with files.claimed(tmp_path / "run"), pytest.raises(InputError, match="another run is writing"):
        loop.train(recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_ctrl_c_in_the_last_step_ends_what_comes_after_too(recipe, tmp_path, monkeypatch):
    """The run itself is whole."""
    real = step.TrainingStep.__call__

    def pressing(self, batches, pressed):
        if self.run.step == 5:
            pressed.append(True)
        return real(self, batches, pressed)

    monkeypatch.setattr(step.TrainingStep, "__call__", pressing)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path / "run", progress=False)
    assert weights.load(tmp_path / "run" / "tiny.safetensors").record["steps"] == 6


def test_ctrl_c_ends_the_run_with_the_step_it_came_in(recipe, tmp_path, monkeypatch):
    real = training_batches.training_noise

    def pressing(items, x, recipe):
        if items[0] == 2 * recipe.batch:
            signal.raise_signal(signal.SIGINT)
        return real(items, x, recipe)

    monkeypatch.setattr(step, "training_noise", pressing)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path / "run", progress=False)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3


def test_a_run_is_not_overwritten(recipe, tmp_path):
    loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="--resume"):
        loop.train(recipe, tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="is of a run with --preset tiny, not lite"):
        loop.train(replace(recipe, preset="lite"), tmp_path / "run", resume=True, progress=False)


def test_weights_without_their_checkpoint_are_not_overwritten(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    left = tmp_path / "run" / "tiny.safetensors"
    left.write_text("of a finished run")
    with pytest.raises(InputError, match="exists, and no checkpoint to go on from: choose another"):
        loop.train(recipe, tmp_path / "run", progress=False)
    assert left.read_text() == "of a finished run"


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 3, "minutes": 0.1, "loss": 9.0}\n{"st')
    loop.train(replace(recipe, steps=2), tmp_path / "run", progress=False)
    assert set(losses(tmp_path / "run")) == {1, 2}


def test_validation_is_never_compiled(recipe, tmp_path, monkeypatch):
    """Other batches than those of training would be compiled anew, which takes longer than they do."""
    compiled = []

    def counted(graph, inputs):  # a backend that compiles nothing and notes for which sizes it was asked
        compiled.append([tuple(x.shape) for x in inputs if hasattr(x, "shape")])
        return graph.forward

    real = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: real(self, backend=counted))
    loop.train(replace(recipe, steps=2, batch=2), tmp_path / "run", progress=False, compile=True)
    assert "raw_free_0.1" in lines(tmp_path / "run")[-1]  # the compiled model was validated
    sizes = {shape[0] for shapes in compiled for shape in shapes if len(shape) == 4 and shape[1] == 4}
    assert compiled and sizes == {2}


def test_waveform_models_train_too(recipe, tmp_path, monkeypatch):
    """With the paper's noise levels and rate, and a quick separation, by Wiener shares, as validation."""
    small = UNet1dConfig(channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,), attention=(0,), heads=1,
                         head_width=8, groups=4, learned_patch=True, segment=4096)
    monkeypatch.setitem(config.WAVE_PRESETS, "small", config.WaveConfig("small", net=small))
    path = loop.train(replace(recipe, preset="small", steps=3), tmp_path / "run", progress=False)
    model = weights.load(path)
    assert model.record["recipe"]["sigma_free"] == [-3.0, 1.0] and model.record["recipe"]["lr"] == 1e-4
    assert model.record["recipe"]["shapes"] == [1, 0, 0, 0] and not model.takes_conditioning
    last = lines(tmp_path / "run")[-1]
    assert np.isfinite(last["val_si_sdr_improvement"]) and "val_known_1.0" not in last


class OneGain(StemModel):
    """A model of a reader: one learned gain for each stem, and nothing else."""

    takes_conditioning = False

    def __init__(self, config):
        super().__init__(config, torch.nn.Identity(), MDCT(config.bins))
        self.gains = torch.nn.Parameter(torch.zeros(len(config.stems)))

    @property
    def variance(self):
        return torch.full((len(self.stems), 1, 1), 0.06**2)

    def fit_statistics(self, coefficients):
        pass

    def denoise(self, x, sigma, conditioning=None):
        return torch.sigmoid(self.gains)[:, None, None] * x


def test_fit_trains_a_model_of_one_s_own_on_tracks_of_one_s_own(recipe, tmp_path, monkeypatch):
    """At one noise level the best gain is a Wiener filter's, v / (v + sigma^2): closed form, for each stem."""
    monkeypatch.setitem(TASKS, "one gain", OneGain)
    v, sigma = torch.tensor([0.01, 0.06]) ** 2, 0.03
    tracks = [Noise(tuple(v.sqrt().tolist()), ("left", "right"), name=f"noise{i}") for i in range(3)]
    model = OneGain(replace(preset("tiny", ("left", "right")), preset="mine", task="one gain"))
    own = replace(recipe, steps=150, batch=8, optimizer="adamw", lr=0.1, gain_db=0.0, silence=0.0, detune=0.0,
                  weight_decay=0.0, sigma_free=(float(np.log(sigma)), 0.0))
    path = loop.fit(model, iter(tracks), own, tmp_path / "run", progress=False)
    assert path == tmp_path / "run" / "mine.safetensors"
    made = weights.load(path)
    assert isinstance(made, OneGain) and made.stems == ("left", "right")
    assert torch.sigmoid(made.gains).tolist() == pytest.approx((v / (v + sigma**2)).tolist(), abs=0.02)
    assert made.record["songs"] == 2 and "command" not in made.record  # the third is held out; only Python repeats it
    assert made.record["recipe"]["preset"] == "mine" and made.record["recipe"]["data"] == "3 tracks"


def test_fit_is_what_train_does(recipe, tmp_path):
    """The same model on the same tracks: every loss and every weight."""
    first = loop.train(replace(recipe, steps=2), tmp_path / "train", progress=False)
    torch.manual_seed(recipe.seed)
    model = weights.build(preset("tiny"))
    songs, held = songs_of(recipe.data, "train"), songs_of(recipe.data, "val")
    second = loop.fit(model, songs, replace(recipe, steps=2), tmp_path / "fit", held, progress=False)
    assert losses(tmp_path / "train") == losses(tmp_path / "fit")
    a, b = (weights.load(path).state_dict() for path in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_tracks_of_another_rate_than_the_model_are_refused(recipe, tmp_path):
    track = Noise((0.1,) * 4)
    track.sample_rate = 44100
    with pytest.raises(InputError, match="noise is read at 44100 Hz, and the model is of 22050 Hz"):
        loop.fit(weights.build(preset("tiny")), [track], recipe, tmp_path / "run", progress=False)
    model = weights.build(replace(preset("tiny"), sample_rate=44100))
    with pytest.raises(InputError, match="noise is read at 22050 Hz, and the model is of 44100 Hz"):
        loop.fit(model, [Noise((0.1,) * 4)], recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("splits, counts", [(("test", "test"), "0 are to train on and 0 to"),
                                            (("train",), "1 are to train on and 0"), ((), "0 are to train on and 0")])
def test_fit_needs_tracks_of_both_kinds(recipe, tmp_path, splits, counts):
    tracks = [Noise((0.1,) * 4, name=f"noise{i}", split=split) for i, split in enumerate(splits)]
    with pytest.raises(InputError, match=counts):
        loop.fit(weights.build(preset("tiny")), tracks, recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_fit_never_trains_on_test_tracks(recipe, tmp_path):
    tracks = [Noise((0.1,) * 4, name=name, split=name) for name in ("train", "test")]
    path = loop.fit(weights.build(preset("tiny")), tracks, replace(recipe, steps=1), tmp_path / "run", tracks[:1],
                    progress=False)
    assert weights.load(path).record["songs"] == 1
