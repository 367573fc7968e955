"""Optional libraries, imported where they are needed, with one line on what to install where they are missing."""

import importlib
from types import ModuleType

from msdm_lite.errors import MachineError


def library(name: str, package: str | None = None) -> ModuleType:
    """A library that only some parts of the package need, such as "librosa.onset".

    Args:
        package: what to install, if it has another name.

    Raises:
        MachineError: it is not installed, or broken.
    """
    top = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        if isinstance(problem, ModuleNotFoundError) and (problem.name or top).split(".")[0] == top:
            raise MachineError(f"this needs {package or top}: pip install {package or top}") from None
        raise MachineError(f"{top} is installed, and cannot be imported: {problem}") from None
