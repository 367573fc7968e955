"""The log of a training run.

Chapter: `book/05-training.ipynb`.
"""

import json
from pathlib import Path
from typing import Any

from msdm_lite.errors import MachineError
from msdm_lite.utils.files import written_whole


class Logger:
    """The log as JSON lines and for TensorBoard. A resumed run removes the lines of steps after its checkpoint."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / "log.jsonl"
        kept = self.path.read_text().splitlines(keepends=True) if step and self.path.exists() else []
        with written_whole(self.path) as scratch:
            scratch.write_text("".join(line for line in kept
                                       if line.endswith("\n") and json.loads(line)["step"] <= step))
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard", purge_step=step + 1, flush_secs=30)
        except ImportError:  # the JSON lines are written without TensorBoard too
            pass

    def note(self, step: int, seconds: float, **values: float) -> None:
        """Add the values of a step; `seconds` is the training time so far, written in minutes.

        Raises:
            MachineError: the file cannot be written.
        """
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps({"step": step, "minutes": round(seconds / 60, 2), **values}) + "\n")
        except OSError as problem:
            raise MachineError(f"{self.path} cannot be written ({problem.strerror}); the last checkpoint is whole, and "
                               "--resume goes on from there") from None
        for name, value in values.items() if self.board else ():
            self.board.add_scalar(name.replace("_", "/", 1), value, step)

    def close(self) -> None:
        if self.board:
            self.board.close()
