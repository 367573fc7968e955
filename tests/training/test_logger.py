import json
import sys

import pytest

from msdm_lite.errors import MachineError
from msdm_lite.training.logger import Logger


def test_lines_of_steps_done_in_vain_are_dropped(tmp_path):
    """A run that was killed at step 30 goes on from the checkpoint of step 20; half a line is no line."""
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (10, 20, 30)]
    (tmp_path / "log.jsonl").write_text("".join(lines) + '{"step": 20, "lo')
    journal = Logger(tmp_path, 20)
    journal.note(21, 90.0, loss=0.5)
    journal.close()
    found = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in found] == [10, 20, 21] and found[-1] == {"step": 21, "minutes": 1.5, "loss": 0.5}


def test_a_run_from_the_beginning_has_a_log_of_its_own(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 5}\n')
    Logger(tmp_path, 0).close()
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_no_tensorboard_no_board(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    journal = Logger(tmp_path, 0)
    journal.note(1, 0.0, loss=1.0)
    journal.close()
    assert journal.board is None and (tmp_path / "log.jsonl").read_text() and not (tmp_path / "tensorboard").exists()


def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch):
    journal = Logger(tmp_path, 0)

    def full(*_args, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(MachineError, match=r"No space left on device.*--resume"):
        journal.note(1, 0.0, loss=1.0)
    monkeypatch.undo()
    journal.close()
