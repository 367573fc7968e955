import shlex
from dataclasses import asdict, fields

import pytest

from msdm_lite.cli import main, train
from msdm_lite.training import loop
from msdm_lite.training.recipe import DEFAULTS, Recipe, Running

# Another value than the default for every setting
RECIPE = {"preset": "tiny", "data": "band", "minutes": 2.5, "start": "tiny", "stems": ("bass", "piano"), "batch": 3,
          "accumulate": 2, "optimizer": "adamw", "lr": 0.3, "warmup": 7, "cooldown": 0.5, "ema": 0.9, "clip": 0.0,
          "weight_decay": 0.125, "shapes": (0.4, 0.3, 0.2, 0.1), "sketched": 0.5, "beat_share": 0.25,
          "sigma_free": (-3.0, 1.0), "sigma_known": (-1.5, 0.5), "gain_db": 1.5, "silence": 0.5, "remix": 0.25,
          "detune": 7.0, "variations": 4, "programs": False, "transpose": False, "soundfonts": False,
          "balance": "loudness", "seed": 9, "log_every": 8}
RUNNING = {"resume": True, "checkpoint_minutes": 2.5, "validation_crops": 3, "compile": True, "workers": 4,
           "resident": True, "device": "cpu", "progress": False}


@pytest.fixture
def read(tmp_path, monkeypatch, capsys):
    """read(words): the recipe that reaches the training, and how it is carried out."""
    got = []
    monkeypatch.setattr(loop, "train", lambda recipe, out, **running: got.append((recipe, running)) or out)

    def read(words: list[str]) -> tuple[Recipe, dict]:
        assert main.main(["train", "--out", str(tmp_path / "run"), *words]) == 0, capsys.readouterr().err
        return got.pop()

    return read


def test_every_setting_is_an_option_and_reaches_the_run(read):
    assert set(RECIPE) | {"steps"} == {field.name for field in fields(Recipe)}
    assert set(RUNNING) == {field.name for field in fields(Running)}
    words = []
    for name, value in (RECIPE | RUNNING).items():
        flag = name.replace("_", "-")
        words += [f"--no-{flag}"] if value is False else [f"--{flag}"] if value is True else [
            f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    recipe, running = read(words)
    assert asdict(recipe) == RECIPE | {"steps": None} and running == RUNNING
    assert all(value != DEFAULTS[name] for name, value in RECIPE.items())


@pytest.mark.parametrize("recipe", [Recipe(steps=5), Recipe(**RECIPE), Recipe(steps=3, sigma_free=(-1.25, 1 / 3)),
                                    Recipe(minutes=0.1, stems=("other", "vocals"), lr=1e-5)])
def test_the_recorded_command_rebuilds_the_recipe(read, recipe):
    rebuilt, running = read(shlex.split(recipe.command())[2:])
    assert rebuilt == recipe and not running["resident"]
    several = recipe.command(Running(resident=True, compile=True, workers=5), processes=2)
    words = shlex.split(several)
    assert words[:6] == ["torchrun", "--nproc_per_node", "2", "-m", "msdm_lite", "train"]
    rebuilt, running = read(words[6:])
    assert rebuilt == recipe and running["resident"] and running["compile"] and running["workers"] == 1


def test_without_a_terminal_there_is_no_bar(read):
    assert read(["--steps", "1"])[1]["progress"] is False


def test_of_several_processes_the_first_prints_the_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "train", lambda recipe, out, **running: out / "tiny.safetensors")
    for rank, printed in (("0", f"{tmp_path / 'tiny.safetensors'}\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        train.train(tmp_path, Recipe(steps=1), Running())
        assert capsys.readouterr().out == printed
