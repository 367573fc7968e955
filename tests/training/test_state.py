import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.models import config, weights
from msdm_lite.models.config import PRESETS, WaveConfig, preset
from msdm_lite.models.unet1d import UNet1dConfig
from msdm_lite.training import loop, state, step
from msdm_lite.utils import files
from tests.conftest import lines, losses


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
        loop.train(recipe, tmp_path / "run", progress=False, checkpoint_minutes=0)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not list((tmp_path / "run").glob("*.part"))
    monkeypatch.setattr(torch, "save", real)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 1000})())
    with pytest.raises(InputError, match="the disk is full"):
        loop.train(recipe, tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ends_while_another_gets_ready_is_not_overwritten(recipe, tmp_path, monkeypatch, resume):
    saved, real = tmp_path / "run" / "checkpoint.pt", files.claimed
    if resume:
        loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False)

    def late(folder):
        saved.parent.mkdir(exist_ok=True)
        saved.write_bytes(b"of another run")
        return real(folder)

    monkeypatch.setattr(loop, "claimed", late)
    with pytest.raises(InputError, match="another run has written"):
        loop.train(recipe, tmp_path / "run", resume=resume, progress=False)
    assert saved.read_bytes() == b"of another run"


def test_a_run_is_taken_up_as_it_was_begun(recipe, tmp_path, caplog):
    one = replace(recipe, preset="lite-single", stems=("bass",), steps=1)
    small = replace(preset("lite-single", ("bass",)), widths=(16, 16, 16, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "preset", lambda name, stems: replace(small, stems=stems))
        loop.train(one, tmp_path / "run", progress=False)
        for change, says in (({"stems": ("drums",)}, "--stems bass, not drums"),
                             ({"optimizer": "adamw"}, "--optimizer muon, not adamw"),
                             ({"steps": 2, "batch": 2}, None)):
            with pytest.raises(InputError, match=says) if says else contextlib.nullcontext():
                loop.train(replace(one, **change), tmp_path / "run", resume=True, progress=False)
    assert "is of a run with batch 4; from here on it is otherwise" in caplog.text
    assert "steps" not in caplog.text


def test_a_damaged_checkpoint_is_one_line(recipe, tmp_path):
    saved = loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False).parent / "checkpoint.pt"
    whole = saved.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        saved.write_bytes(content)
        with pytest.raises(InputError, match="damaged or no checkpoint"):
            loop.train(recipe, tmp_path / "run", resume=True, progress=False)
        assert saved.read_bytes() == content
    torch.save({"model": {}}, saved)
    with pytest.raises(InputError, match="KeyError"):
        loop.train(recipe, tmp_path / "run", resume=True, progress=False)


def test_the_average_forgets_the_first_weights_soon():
    """After n updates the decay is (1 + n) / (10 + n) at most: a tenth of what came first, then less and less."""
    average, update = [torch.ones(1)], state._ramped(0.999)
    for count in range(30):
        update(average, [torch.zeros(1)], torch.tensor(count))
    expected = 1.0
    for count in range(30):
        expected *= min(0.999, (1 + count) / (10 + count))
    assert average[0].item() == pytest.approx(expected, rel=1e-4) and expected < 1e-6


def test_only_scraps_of_a_run_are_removed(recipe, tmp_path):
    """A browser's half-loaded file ends in .part as well."""
    (tmp_path / "run").mkdir()
    own = [tmp_path / "run" / name for name in ("checkpoint.pt.71-140.part", "log.jsonl.7-1.part",
                                                "tiny.safetensors.8-2.part", "tiny.json.8-2.part")]
    others = [tmp_path / "run" / name for name in ("film.mp4.part", "checkpoint.pt.part", "other.safetensors.8-2.part")]
    for file in own + others:
        file.write_text("half")
    loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False)
    assert not any(file.exists() for file in own) and all(file.read_text() == "half" for file in others)


@pytest.fixture
def stopped_after(monkeypatch):
    """stopped_after(n): Ctrl-C in the n-th step of a run from now on; None for no more of it."""
    real, at = step.TrainingStep.__call__, []

    def pressing(self, batches, pressed):
        if at and self.run.step == at[0] - 1:
            pressed.append(True)
        return real(self, batches, pressed)

    monkeypatch.setattr(step.TrainingStep, "__call__", pressing)
    return lambda n: at.__setitem__(slice(None), [] if n is None else [n])


SMALL = replace(PRESETS["tiny"], preset="small", widths=(16, 24, 32), embedding_width=16)
WAVE = WaveConfig("small", net=UNet1dConfig(channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,),
                                            attention=(0,), heads=1, head_width=8, groups=4, learned_patch=True,
                                            segment=4096))
SKETCHER = replace(PRESETS["lite-sketch"], preset="small", widths=(16, 24, 32), blocks=(1, 1, 1), embedding_width=16)
KINDS = {"adamw": (SMALL, {"optimizer": "adamw", "weight_decay": 0.3}),
         "accumulated": (SMALL, {"accumulate": 3, "batch": 2, "remix": 0.5, "ema": 0.5, "clip": 0.01}),
         "conditioned on sketches": (replace(SMALL, sketch=PRESETS["lite"].sketch), {"sketched": 0.5}),
         "sketches": (SKETCHER, {"beat_share": 0.5}), "waveforms": (WAVE, {})}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_as_one_that_was_not(recipe, tmp_path, monkeypatch, stopped_after, kind):
    """The same losses, and the same weights, average and moments to the last bit; and it has learned something."""
    own, settings = KINDS[kind]
    monkeypatch.setitem(config.WAVE_PRESETS if own is WAVE else PRESETS, "small", own)
    made = replace(recipe, preset="small", steps=4, lr=3e-3, **settings)
    loop.train(made, tmp_path / "whole", progress=False)
    stopped_after(2)
    with pytest.raises(KeyboardInterrupt):
        loop.train(made, tmp_path / "cut", progress=False)
    middle = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    stopped_after(None)
    loop.train(made, tmp_path / "cut", progress=False, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole") and len(losses(tmp_path / "cut")) == 4
    whole, cut = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "cut"))
    for part in ("model", "average"):
        torch.testing.assert_close(cut[part], whole[part], rtol=0, atol=0)
    torch.testing.assert_close(cut["optimizer"]["state"], whole["optimizer"]["state"], rtol=0, atol=0)
    assert whole["config"] == cut["config"] and middle["step"] == 2 and whole["step"] == cut["step"] == 4
    assert any(not torch.equal(middle["model"][name], value) for name, value in whole["model"].items())


def test_minutes_are_minutes_of_training(recipe, tmp_path, monkeypatch, stopped_after):
    """A clock that a step moves by 15 s and a validation by an hour: a minute has four steps; resumed ones count."""
    taken, seconds = [], [0.0]
    monkeypatch.setattr(state, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    real_step, real_validate = step.TrainingStep.__call__, loop._validate

    def slow_step(self, *args):
        taken.append(self.run.step)
        seconds[0] += 15
        return real_step(self, *args)

    def slow_validation(*args):
        seconds[0] += 3600
        return real_validate(*args)

    monkeypatch.setattr(step.TrainingStep, "__call__", slow_step)
    monkeypatch.setattr(loop, "_validate", slow_validation)
    made = replace(recipe, steps=None, minutes=1.0, warmup=0, cooldown=0.5)
    path = loop.train(made, tmp_path / "whole", progress=False, checkpoint_minutes=0.5)
    assert taken == [0, 1, 2, 3]
    record = weights.load(path).record
    assert record["steps"] == 4 and record["minutes"] == 1.0
    assert [line["minutes"] for line in lines(tmp_path / "whole") if "loss" in line] == [0.25, 0.5, 0.75, 1.0]
    # A checkpoint, with its validation, after more than half a minute, and at the end
    assert [line["step"] for line in lines(tmp_path / "whole") if "val_free_1.0" in line] == [3, 4]
    stopped_after(2)
    with pytest.raises(KeyboardInterrupt):
        loop.train(made, tmp_path / "cut", progress=False)
    stopped_after(None)
    seconds[0] += 10_000  # the night between
    loop.train(made, tmp_path / "cut", progress=False, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    with pytest.raises(InputError, match="minutes, steps and lr must be above 0"):
        loop.train(replace(made, minutes=-1.0), tmp_path / "none", progress=False)
