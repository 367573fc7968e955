import re
import subprocess
import sys

import pytest

import msdm_lite
from msdm_lite.cli import main


def test_help_lists_every_command_in_its_group_within_100_columns(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(f"{group}:" in lines for group in main.GROUPS)
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in main.COMMANDS)
    assert max(map(len, lines)) <= 100 and any("130" in line for line in lines)


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert main.main(["seperate"]) == 2
    assert "seperate: did you mean separate?" in capsys.readouterr().err


def test_help_does_not_import_torch():
    code = "import sys; from msdm_lite.cli import main; import contextlib\n" \
           "with contextlib.suppress(SystemExit): main.main(['--help'])\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


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
    options = [line for line in text.splitlines() if re.match(r"\W*--\w", line)]
    assert max(map(len, options), default=0) <= 100
    assert text.count("(default") + text.count("(required") >= len(options)


@pytest.mark.parametrize("name, shown", [("methods", ["mixture-constrained", "dirac", "replacement", "ode"]),
                                         ("models", ["lite", "tiny-wave", "lite-independent"])])
def test_tables_fit_100_columns(name, shown, capsys):
    assert main.main([name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert all(any(re.search(rf"(^|\s){word}\s", line) for line in lines) for word in shown)


def test_the_version_is_said(capsys):
    assert main.main(["--version"]) == 0
    assert msdm_lite.__version__ in capsys.readouterr().out
