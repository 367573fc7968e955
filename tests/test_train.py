import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from msdm_lite import corpus, folders, items, model, optimizer, train, validation, wave, weights
from msdm_lite import recipe as recipes
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import Model, preset
from msdm_lite.recipe import Recipe
from msdm_lite.unet1d import UNet1dConfig

COMMAND = [sys.executable, "-m", "msdm_lite", "train", "--preset", "tiny", "--log-every", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    """Four short songs of one's own: low tones, clicks, high tones, hiss. The first by name is for validation."""
    root = tmp_path_factory.mktemp("stems")
    rng = np.random.default_rng(0)
    for i in range(4):
        waves = {"bass": np.sin(0.1 * np.arange(120_000)), "drums": 20 * (rng.random(120_000) < 0.0005),
                 "guitar": np.sin(0.5 * np.arange(120_000)), "piano": 0.4 * rng.standard_normal(120_000)}
        (root / f"song{i}").mkdir()
        for name, samples in waves.items():
            soundfile.write(root / f"song{i}" / f"{name}.wav", 0.03 * samples, 22050, subtype="FLOAT")
    return root


@pytest.fixture
def recipe(stems, monkeypatch):
    monkeypatch.setattr(train, "Validation", partial(validation.Validation, count=4))
    monkeypatch.setattr(train, "deviations", partial(train.deviations, count=20))
    return Recipe(preset="tiny", data=str(stems), steps=6, batch=4, warmup=2, log_every=1)


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder):
    return {line["step"]: line["loss"] for line in lines(folder) if "loss" in line}


def test_training_learns_logs_and_ships(recipe, tmp_path):
    path = train.train(replace(recipe, steps=60, lr=3e-3), tmp_path / "run", progress=False)
    model = weights.load(path)
    assert model.record["steps"] == 60 and model.record["songs"] == 3 and model.record["command"].endswith("--steps 60")
    assert model.record["recipe"]["sigma_free"] == [-1.2, 1.4]  # what was left open is said
    found = losses(tmp_path / "run")
    assert list(found) == list(range(1, 61)) and np.isfinite(list(found.values())).all()
    # clicks and hiss have one long-term spectrum: the Wiener filter cannot tell them apart, 60 steps of training can
    start = Model(preset("tiny"), model.denoiser.deviation)
    last = lines(tmp_path / "run")[-1]
    assert last["val_known_1.0"] < 0.9 * train.Validation(start, recipe.data)(start)["known_1.0"]
    assert last["raw_known_1.0"] != last["val_known_1.0"]  # the last weights, and their average
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_a_run_can_start_with_the_weights_of_another(recipe, tmp_path):
    first = train.train(recipe, tmp_path / "first", progress=False)
    path = train.train(replace(recipe, start=str(first), steps=9), tmp_path / "second", progress=False)
    assert list(losses(tmp_path / "second")) == [7, 8, 9]  # what the first had done counts, and its crops are past
    before, after = weights.load(first), weights.load(path)
    assert after.record["steps"] == 9 and after.record["before"] == before.record
    assert f"--start {first}" in after.record["command"]
    assert torch.equal(after.denoiser.deviation, before.denoiser.deviation)
    own = dict(after.named_parameters())
    assert 0 < max((own[name] - value).abs().max() for name, value in before.named_parameters()) < 0.1
    for other, says in ((replace(recipe, start=str(first)), "6 steps behind it"),
                        (replace(recipe, start=str(first), preset="lite", steps=9), "is no lite"),
                        (replace(recipe, start=str(first), stems=("bass",), steps=9), "is no tiny of bass"),
                        (replace(recipe, start="nowhere", steps=9), "no model 'nowhere'")):
        with pytest.raises(InputError, match=says):
            train.train(other, tmp_path / "third", progress=False)
    assert not (tmp_path / "third").exists()


def test_every_checkpoint_comes_with_the_weights_so_far(recipe, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(train.weights, "save", lambda model, path, record: kept.append(record["steps"]))
    train.train(recipe, tmp_path / "run", progress=False, checkpoint_minutes=0)
    assert kept == [1, 2, 3, 4, 5, 6]


def test_models_of_one_stem_each_are_a_bundle(recipe, tmp_path):
    for name in ("bass", "drums"):
        path = train.train(replace(recipe, stems=(name,), steps=2), tmp_path / name, progress=False)
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
    monkeypatch.setitem(model.PRESETS, "other", replace(model.PRESETS["tiny"], preset="other", task=task))
    path = train.train(replace(recipe, preset="other", steps=30, lr=3e-3), tmp_path / "run", progress=False)
    made = weights.load(path)
    assert made.config.task == task and made.record["recipe"]["shapes"] == shapes
    last = lines(tmp_path / "run")[-1]
    assert {key.split("_")[1] for key in last if key.startswith("val_") and key[-1].isdigit()} == measured
    start = train.build(made.config)
    start.denoiser.deviation.copy_(made.denoiser.deviation)
    assert last["val_known_1.0"] < 0.95 * train.Validation(start, recipe.data)(start)["known_1.0"]


def test_presets_of_some_stems():
    assert preset("lite", ("piano", "bass")).stems == ("bass", "piano")
    one = preset("base", ("drums",))
    assert one.stems == ("drums",) and one.net.stems == 1 and train.build(one).denoiser.net.config.stems == 1
    for stems in ((), ("flute",), ("bass", "bass")):
        with pytest.raises(InputError, match="stems are some of"):
            preset("lite", stems)


def test_the_board_has_what_the_log_has(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train.train(replace(recipe, steps=3), tmp_path / "run", progress=False)
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
    args = ["--data", stems, "--steps", "5"]
    runs = {"one": launch([*args, "--batch", "4"], tmp_path / "one"),
            "accumulated": launch([*args, "--batch", "2", "--accumulate", "2"], tmp_path / "accumulated"),
            "two": launch([*args, "--batch", "2"], tmp_path / "two", processes=2)}
    for name, run in runs.items():
        out, err = run.communicate()
        assert run.returncode == 0, err
        assert out.split() == [str(tmp_path / name / "tiny.safetensors")]  # said once
    one = losses(tmp_path / "one")
    # bf16, where a processor has it, rounds a batch of two otherwise than one of four
    assert losses(tmp_path / "accumulated") == pytest.approx(one, rel=1e-3)
    assert losses(tmp_path / "two") == pytest.approx(one, rel=1e-3)
    assert json.loads((tmp_path / "two" / "tiny.json").read_text())["processes"] == 2


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
        train.train(recipe, tmp_path / "run", progress=False)


def test_a_full_disk_loses_nothing(recipe, tmp_path, monkeypatch):
    real, calls = torch.save, []

    def full(state, path):
        calls.append(path)
        if len(calls) > 2:
            Path(path).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        real(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"checkpoint of step 3 cannot be written .*--resume"):
        train.train(recipe, tmp_path / "run", progress=False, checkpoint_minutes=0)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not list((tmp_path / "run").glob("*.part"))
    monkeypatch.setattr(torch, "save", real)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 1000})())
    with pytest.raises(InputError, match="the disk is full"):
        train.train(recipe, tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_recipes_that_cannot_be(recipe, tmp_path):
    for wrong, says in ((replace(recipe, steps=None), "either --minutes or --steps"),
                        (replace(recipe, minutes=1.0), "either --minutes or --steps"),
                        (replace(recipe, preset="huge"), "no preset"), (replace(recipe, data="all of it"), "data is"),
                        (replace(recipe, batch=0), "1 or more"), (replace(recipe, steps=0), "above 0"),
                        (replace(recipe, steps=None, minutes=-1.0), "above 0"), (replace(recipe, lr=0.0), "above 0"),
                        (replace(recipe, remix=1.5), "shares"),
                        (replace(recipe, cooldown=-0.1), "shares"), (replace(recipe, detune=-1.0), "0 or more"),
                        (replace(recipe, seed=-1), "seed must be 0 or more"),
                        (replace(recipe, shapes=(0.5, 0.5)), "four shares"),
                        (replace(recipe, shapes=(0.5, 0.5, 0.5, 0.5)), "sum to 1"),
                        (replace(recipe, preset="lite-supervised", shapes=(1.0, 0.0, 0.0, 0.0)), "is fixed"),
                        (replace(recipe, variations=1), "of the corpus"),
                        (replace(recipe, balance="loudness"), "of the corpus")):
        with pytest.raises(InputError, match=says):
            train.train(wrong, tmp_path / "run", progress=False)
    with pytest.raises(InputError, match=r"no .*checkpoint\.pt to resume"):
        train.train(recipe, tmp_path / "run", resume=True, progress=False)
    with pytest.raises(InputError, match="checkpoint-minutes"):
        train.train(recipe, tmp_path / "run", checkpoint_minutes=float("nan"), progress=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file, not a folder"):
        train.train(recipe, tmp_path / "file", progress=False)


def test_songs_for_validation_are_missed_before_the_work(recipe, tmp_path):
    place = tmp_path / "songs" / "train" / "one"
    place.mkdir(parents=True)
    for source in (Path(recipe.data) / "song0").iterdir():
        (place / source.name).write_bytes(source.read_bytes())
    with pytest.raises(InputError, match="no songs of the split 'val'"):
        train.train(replace(recipe, data=str(tmp_path / "songs")), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_song_that_breaks_meanwhile_is_said_in_one_line():
    """A loader's worker hands its error on with the whole traceback in it, as torch words it."""
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise InputError("song1/bass.wav: damaged")

    for workers in (0, 1) if multiprocessing.get_start_method() == "fork" else (0,):
        batches = iter(torch.utils.data.DataLoader(Broken(), 2, num_workers=workers))
        with pytest.raises(InputError, match=r"^song1/bass\.wav: damaged$"):
            train._next(batches)


def test_songs_that_are_not_rendered(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="data build"):
        train.train(replace(recipe, data="band"), tmp_path / "run", progress=False)


def test_two_runs_do_not_share_a_folder(recipe, tmp_path):
    with folders.claimed(tmp_path / "run"), pytest.raises(InputError, match="another run is writing"):
        train.train(recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ends_while_another_gets_ready_is_not_overwritten(recipe, tmp_path, monkeypatch, resume):
    saved, real = tmp_path / "run" / "checkpoint.pt", train.claimed
    if resume:
        train.train(replace(recipe, steps=1), tmp_path / "run", progress=False)

    def late(folder):
        saved.parent.mkdir(exist_ok=True)
        saved.write_bytes(b"of another run")
        return real(folder)

    monkeypatch.setattr(train, "claimed", late)
    with pytest.raises(InputError, match="another run has written"):
        train.train(recipe, tmp_path / "run", resume=resume, progress=False)
    assert saved.read_bytes() == b"of another run"


def test_ctrl_c_in_the_last_step_ends_what_comes_after_too(recipe, tmp_path, monkeypatch):
    """The run itself is whole."""
    real = train._step

    def pressing(run, batches, accelerator, objective, optimizer, pressed):
        if run.step == 5:
            pressed.append(True)
        return real(run, batches, accelerator, objective, optimizer, pressed)

    monkeypatch.setattr(train, "_step", pressing)
    with pytest.raises(KeyboardInterrupt):
        train.train(recipe, tmp_path / "run", progress=False)
    assert weights.load(tmp_path / "run" / "tiny.safetensors").record["steps"] == 6


def test_ctrl_c_ends_the_run_with_the_step_it_came_in(recipe, tmp_path, monkeypatch):
    real = train.noise_of

    def pressing(items, x, recipe):
        if items[0] == 2 * recipe.batch:
            signal.raise_signal(signal.SIGINT)
        return real(items, x, recipe)

    monkeypatch.setattr(train, "noise_of", pressing)
    with pytest.raises(KeyboardInterrupt):
        train.train(recipe, tmp_path / "run", progress=False)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3


def test_a_run_is_not_overwritten(recipe, tmp_path):
    train.train(replace(recipe, steps=1), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="--resume"):
        train.train(recipe, tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="is of a run with --preset tiny, not lite"):
        train.train(replace(recipe, preset="lite"), tmp_path / "run", resume=True, progress=False)


def test_weights_without_their_checkpoint_are_not_overwritten(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    left = tmp_path / "run" / "tiny.safetensors"
    left.write_text("of a finished run")
    with pytest.raises(InputError, match="exists, and no checkpoint to go on from: choose another"):
        train.train(recipe, tmp_path / "run", progress=False)
    assert left.read_text() == "of a finished run"


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 3, "minutes": 0.1, "loss": 9.0}\n{"st')
    train.train(replace(recipe, steps=2), tmp_path / "run", progress=False)
    assert set(losses(tmp_path / "run")) == {1, 2}


def test_a_run_is_taken_up_as_it_was_begun(recipe, tmp_path, caplog):
    one = replace(recipe, preset="lite-single", stems=("bass",), steps=1)
    small = replace(preset("lite-single", ("bass",)), widths=(16, 16, 16, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "preset", lambda name, stems: replace(small, stems=stems))
        train.train(one, tmp_path / "run", progress=False)
        for change, says in (({"stems": ("drums",)}, "--stems bass, not drums"),
                             ({"optimizer": "adamw"}, "--optimizer muon, not adamw"),
                             ({"steps": 2, "batch": 2}, None)):
            with pytest.raises(InputError, match=says) if says else contextlib.nullcontext():
                train.train(replace(one, **change), tmp_path / "run", resume=True, progress=False)
    assert "is of a run with batch 4; from here on it is otherwise" in caplog.text
    assert "steps" not in caplog.text


def test_waveform_models_train_too(recipe, tmp_path, monkeypatch):
    """With the paper's noise levels and rate, and a quick Dirac separation as validation."""
    small = UNet1dConfig(channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,), attention=(0,), heads=1,
                         head_width=8, groups=4, learned_patch=True, segment=4096)
    monkeypatch.setitem(wave.PRESETS, "small", wave.WaveConfig("small", net=small))
    path = train.train(replace(recipe, preset="small", steps=3), tmp_path / "run", progress=False)
    model = weights.load(path)
    assert model.record["recipe"]["sigma_free"] == [-3.0, 1.0] and model.record["recipe"]["lr"] == 1e-4
    assert model.record["recipe"]["shapes"] == [1, 0, 0, 0] and not model.takes_known
    last = lines(tmp_path / "run")[-1]
    assert np.isfinite(last["val_si_sdr_improvement"]) and "val_known_1.0" not in last


def test_a_record_says_the_command_that_makes_it_again():
    recipe = Recipe(preset="tiny", gain_db=0.0, transpose=False, variations=2, minutes=75.0)
    assert recipe.command() == ("msdm-lite train --preset tiny --data all --gain-db 0 --variations 2 --no-transpose "
                                "--minutes 75")


def test_the_rate_warms_up_stays_and_falls():
    recipe = Recipe(lr=1.0, warmup=10, cooldown=0.25)
    assert [recipe.rate(step, 0.0) for step in (0, 4, 9, 500)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert [recipe.rate(99, done) for done in (0.5, 0.75, 0.875, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.01])


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_optimizers_take_every_weight_once(tiny, name):
    model = train.build(preset("tiny"))
    made = optimizer.optimizer(name, model, 1e-3, 0.1)
    held = [p for group in made.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()} and len(held) == len(set(map(id, held)))
    plain = [group for group in made.param_groups if group["weight_decay"] == 0]
    assert all(p.ndim <= 1 for group in plain for p in group["params"])
    x, sigma = 0.05 * torch.randn(2, 4, 1024, 8), torch.tensor([0.1, 1.0])
    before = [p.clone() for p in model.parameters()]
    for _ in range(4):  # last layers start at zero, and pass no gradient on at first
        model.loss(x, sigma, Known.the_mixture(x), torch.randn_like(x)).mean().backward()
        made.step()
        made.zero_grad()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_muon_moves_all_directions_of_a_matrix_alike():
    """After one step the singular values of a matrix's change are alike; the gradient's are not."""
    model = train.build(preset("tiny"))
    weight = model.denoiser.net.down[0][0].conv1.weight
    before = weight.detach().clone().flatten(1)
    made = optimizer.optimizer("muon", model, 1e-2, 0.0)
    weight.grad = torch.randn_like(weight) * torch.logspace(0, -2, len(weight))[:, None, None, None]
    made.step()
    values = torch.linalg.svdvals(weight.detach().flatten(1) - before)
    assert values[0] / values[-1] < 3 < 30 < (s := torch.linalg.svdvals(weight.grad.flatten(1)))[0] / s[-1]


def test_muon_in_single_precision_is_the_library_s(monkeypatch):
    """Where bfloat16 is slow the same step is made in float32: the same weights, to bfloat16's three digits."""
    after = []
    for fast in (True, False):
        monkeypatch.setattr(optimizer, "fast_bfloat16", lambda kind, fast=fast: fast)
        torch.manual_seed(0)
        model = train.build(preset("tiny"))
        made = optimizer.optimizer("muon", model, 1e-2, 0.0)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        made.step()
        after.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    for name, move in after[0].items():
        assert (after[1][name] - move).norm() <= 0.05 * move.norm(), name
    name = "denoiser.net.down.0.0.conv1.weight"  # of a library that goes another way this would be the same twice
    assert not torch.equal(after[0][name], after[1][name])


def test_no_such_optimizer(tiny):
    with pytest.raises(InputError, match="no optimizer 'magic'"):
        optimizer.optimizer("magic", tiny, 1e-3, 0.0)


def test_noise_depends_on_the_item_alone():
    recipe = Recipe(sigma_free=(-1.6, 1.2), shapes=(0.4, 0.3, 0.2, 0.1))
    x = torch.zeros(4, 4, 8, 3)
    sigma, known, noise, _ = items.noise_of(torch.arange(8, 12), x, recipe)
    one, its_known, its_noise, _ = items.noise_of(torch.tensor([10]), x[:1], recipe)
    assert sigma[2] == one[0] and torch.equal(noise[2], its_noise[0])
    assert known.mixture[2] == its_known.mixture[0] and torch.equal(known.stems[2], its_known.stems[0])
    assert items.shapes_of(torch.arange(8, 12), recipe.shapes).tolist() == [3, 1, 0, 2]
    assert known.mixture.tolist() == [True, True, False, False]


def test_levels_are_log_normal_and_noise_is_white():
    """4000 draws: a mean is known to 1/63 of a deviation, a deviation to 1/89; four of those are allowed."""
    recipe = Recipe(sigma_free=(-1.6, 1.2), shapes=(0.75, 0.25, 0.0, 0.0))
    numbers = torch.arange(4000)
    sigma, known, noise, _ = items.noise_of(numbers, torch.zeros(4000, 1, 4), recipe)
    assert known.mixture.float().mean() == pytest.approx(0.25, abs=1e-3) and not known.stems.any()
    free, fixed = sigma[~known.mixture].log(), sigma[known.mixture].log()
    assert free.mean() == pytest.approx(-1.6, abs=4 * 1.2 / 54) and free.std() == pytest.approx(1.2, rel=4 / 77)
    assert fixed.mean() == pytest.approx(0.2, abs=4 * 1.5 / 31) and fixed.std() == pytest.approx(1.5, rel=4 / 44)
    assert torch.allclose(noise.flatten(1).T.cov(), torch.eye(4), atol=4 / 63)


def test_every_subset_of_stems_is_known_at_times_and_something_always_open():
    recipe = Recipe(sigma_free=(-1.6, 1.2), shapes=(0.25, 0.25, 0.25, 0.25))
    numbers = torch.arange(2000)
    _, known, _, _ = items.noise_of(numbers, torch.zeros(2000, 4, 1), recipe)
    kinds = items.shapes_of(numbers, recipe.shapes)
    counts = known.stems.sum(1)
    assert (counts[kinds < 2] == 0).all() and torch.equal(known.mixture, kinds % 2 == 1)
    assert {tuple(row) for row in known.stems[kinds == 2].int().tolist()} == set(product((0, 1), repeat=4)) - {
        (0, 0, 0, 0), (1, 1, 1, 1)}
    assert set(counts[kinds == 3].tolist()) == {1, 2}  # with three and the mixture known the fourth would be, too


def test_pictures_do_not_wrap():
    """A crop's picture is a slice of its song's: what sounds at the end is not heard at the beginning."""
    model = Model(preset("tiny"))
    crop = torch.zeros(1, 4, validation.crop_samples(model))
    crop[..., -model.config.bins :] = torch.randn(model.config.bins)
    assert validation.pictures(model, crop)[..., :4].abs().max() < 1e-5


def test_the_order_shares_items_out():
    recipe = Recipe(batch=2, accumulate=2)
    ranks = [iter(items.Order(3, recipe, rank, 2)) for rank in (0, 1)]
    assert [[next(rank) for _ in range(4)] for rank in ranks] == [[24, 25, 28, 29], [26, 27, 30, 31]]


def test_songs_of_the_corpus(monkeypatch):
    asked = []
    monkeypatch.setattr(corpus, "songs", lambda *args, **switches: asked.append((*args, switches)))
    recipes.songs_of("all", "train", 2, "loudness", transpose=False)
    assert asked == [("train", None, 2, "loudness", {"transpose": False})]
