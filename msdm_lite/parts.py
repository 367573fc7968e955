"""What a long measurement has found so far, in a folder beside its result: one that was stopped goes on from there.

Chapter: `book/10-measuring.ipynb`, whose distances take hours on two cores.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from msdm_lite import resources
from msdm_lite.errors import InputError

Found = dict[str, Tensor]
Keep = Callable[[str, Callable[[], Found]], Found]


def anew(name: str, make: Callable[[], Found]) -> Found:
    """Keeps nothing: each part is made."""
    return make()


class Parts:
    """Tensors by name, in files of the folder `NAME-parts` beside `NAME.json`.

    `seconds` is how long those took that were found there: what a result took includes the runs before.

    Args:
        out: the result that they are parts of.
        head: what it is a measurement of. Parts of another are no good, and are removed.

    Raises:
        InputError: there is such a folder, of something else.
    """

    def __init__(self, out: Path, head: dict):
        self.folder, self.seconds = out.with_name(f"{out.stem}-parts"), 0.0
        said, told = json.dumps(head, indent=1), self.folder / "head.json"
        if self.folder.exists() and not told.exists():
            raise InputError(f"{self.folder} is there, and holds no parts of a result: choose another file")
        if told.exists() and told.read_text() != said:
            shutil.rmtree(self.folder)
        with resources.whole(told) as scratch:
            scratch.write_text(said)

    def keep(self, name: str, make: Callable[[], Found]) -> Found:
        """The part of that name: as it was found before, or made now."""
        path = self.folder / f"{name}.pt"
        if path.exists():
            kept = torch.load(path, weights_only=True)
            self.seconds += kept["seconds"]
            return kept["found"]
        begun = time.perf_counter()
        found = make()
        with resources.whole(path) as scratch:
            torch.save({"found": found, "seconds": time.perf_counter() - begun}, scratch)
        return found

    def done(self) -> None:
        """The result is written: its parts go."""
        shutil.rmtree(self.folder)
