"""Files of torch.save that this package wrote, read without running what another file in their place may hide."""

from pathlib import Path
from typing import Any

import torch
from torch.torch_version import TorchVersion

from msdm_lite.errors import MachineError

SAFE = "2.6"  # until then a file could run code although weights_only was set (CVE-2025-32434)


def require_safe_torch(what: object) -> None:
    """Check that this PyTorch can read a file of tensors without running what it hides.

    Args:
        what: is to be read, for the message.

    Raises:
        MachineError: PyTorch is older than 2.6.
    """
    if TorchVersion(torch.__version__) < SAFE:
        raise MachineError(f"{what}: to read it wants PyTorch {SAFE} or newer, and this is {torch.__version__}: an "
                           "older one can be made to run what a file of tensors hides")


def save_tensors(value: Any, path: str | Path) -> None:
    """Write what `load_tensors` reads.

    Raises:
        MachineError: it cannot be written, most often because the disk is full.
    """
    try:
        torch.save(value, path)
    except RuntimeError as problem:  # of torch's writer, where others raise OSError
        raise MachineError(f"{path} cannot be written ({str(problem).splitlines()[0]}): is the disk full?") from None


def load_tensors(path: str | Path) -> Any:
    """The tensors, numbers, texts, lists and dictionaries in a file of torch.save, on the CPU.

    Raises:
        MachineError: PyTorch is older than 2.6.
        pickle.UnpicklingError, RuntimeError, EOFError: the file holds something else, or is damaged.
    """
    require_safe_torch(path)
    return torch.load(path, map_location="cpu", weights_only=True)
