import logging

import pytest
import torch

from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import terminal

MEMORY = "msdm-lite: out of memory: take shorter sounds, fewer at a time or a smaller model\n"


@pytest.mark.parametrize("problem, code, says", [
    (InputError("no such song"), 2, "msdm-lite: no such song\n"), (MachineError("no disk"), 2, "msdm-lite: no disk\n"),
    (FloatingPointError("not finite"), 2, "msdm-lite: not finite\n"),
    (FileNotFoundError(2, "No such file or directory", "a.npy"), 2, "msdm-lite: a.npy: No such file or directory\n"),
    (MemoryError(), 2, MEMORY), (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), 2, MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory"), 2, MEMORY),
    (KeyboardInterrupt(), 130, "msdm-lite: interrupted\n")])
def test_trouble_is_one_line_and_a_code(capsys, problem, code, says):
    def run():
        raise problem

    assert terminal.guarded(run) == code and capsys.readouterr().err == says


def test_warnings_are_shown_meanwhile_and_bugs_are_not_hidden(capsys):
    assert terminal.guarded(lambda: logging.getLogger("msdm_lite").warning("too loud")) == 0
    assert capsys.readouterr().err == "msdm-lite: too loud\n"
    for bug in (ZeroDivisionError, RuntimeError):
        def run(bug=bug):
            raise bug

        with pytest.raises(bug):
            terminal.guarded(run)
    assert not logging.getLogger("msdm_lite").handlers


def test_names_of_any_bytes_do_not_end_a_command(capfd, monkeypatch):
    """In what is printed, in warnings and in errors."""
    # Else the warning is in the report of the test, which workers of pytest-xdist cannot send
    monkeypatch.setattr(logging.getLogger("msdm_lite"), "propagate", False)

    def run():
        print("caf\udce9.wav")
        logging.getLogger("msdm_lite").warning("%s is silent", "caf\udce9.wav")
        raise InputError("caf\udce9.wav is empty")

    assert terminal.guarded(run) == 2
    said = capfd.readouterr()
    assert "caf" in said.out and said.err == "msdm-lite: caf\\xe9.wav is silent\nmsdm-lite: caf\\xe9.wav is empty\n"
