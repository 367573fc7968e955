import re
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from msdm_lite.cli import main, options


@pytest.mark.parametrize("name", ["separate", "evaluate"])
def test_renamed_options_are_described(name, capsys):
    with pytest.raises(SystemExit):
        main.main([name, "--help"])
    assert "the first noise level" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_option_says_what_it_takes_and_what_holds_without_it(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        main.main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and not re.search(r"\bNone\b", text)
    lines = [line for line in text.splitlines() if re.match(r"\W*--\w", line)]
    assert max(map(len, lines), default=0) <= 100
    assert text.count("(default") + text.count("(required") >= len(lines)
    assert "(default: )" not in text


@pytest.fixture
def command():
    """A command with options of several kinds, which returns their values."""
    def run(files: tyro.conf.Positional[options.Inputs], out: options.Folder, steps: options.Steps = None,
            method: Annotated[str | None, options.one_of("dirac", "gaussian", otherwise="the model's own")] = None,
            songs: Annotated[int | None, options.optional("COUNT", "all songs")] = None, churn: options.Setting = None,
            seed: options.Seed = 0) -> dict:
        return {"files": files, "out": out, "steps": steps, "method": method, "songs": songs, "churn": churn,
                "seed": seed}

    return run


def test_help_shows_what_an_option_takes_and_what_holds_without_it(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        tyro.cli(command, args=["--help"])
    text = " ".join(re.sub(r"[^\w\s{},()\[\]=:'-]", " ", capsys.readouterr().out).split())
    for shown in ("--method {dirac,gaussian} (default: the model's own)", "--songs COUNT (default: all songs)",
                  f"--steps N {options.METHODS_OWN}", f"--churn X {options.METHODS_OWN}", "--seed N (default: 0)",
                  "--out FOLDER (required)", "[STEM=]FILE"):
        assert shown in text


def test_values_have_the_type_of_their_option(command):
    words = ["bass.wav", "drums=kick.wav", "--out", "band", "--steps", "3", "--churn", "3", "--method", "wiener"]
    found = tyro.cli(command, args=words)
    assert found == {"files": ("bass.wav", "drums=kick.wav"), "out": Path("band"), "steps": 3, "method": "wiener",
                     "songs": None, "churn": 3.0, "seed": 0}  # of the methods, the models know which there are
    assert isinstance(found["steps"], int) and isinstance(found["churn"], float)
    with pytest.raises(SystemExit):
        tyro.cli(command, args=["bass.wav", "--out", "band", "--steps", "few"], console_outputs=False)
