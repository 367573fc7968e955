import subprocess
import sys

import pytest

import msdm_lite
from msdm_lite.cli import main


@pytest.mark.parametrize("command", ["separate", "generate", "accompany", "train", "evaluate", "data", "models",
                                     "results"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main([command, "--help"])
    assert stop.value.code == 0 and "usage: msdm-lite" in capsys.readouterr().out


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


def test_the_version_is_said(capsys):
    assert main.main(["--version"]) == 0
    assert msdm_lite.__version__ in capsys.readouterr().out
