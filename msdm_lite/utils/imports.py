"""Optional libraries, imported where they are needed; if one is missing, the error says what to install."""

import importlib
from types import ModuleType

from msdm_lite.errors import MachineError


def missing(problem: ImportError) -> str:
    """The package that has what could not be imported: its name, but for Pillow, which is imported as PIL."""
    name = str(problem.name).split(".")[0]
    return "pillow" if name == "PIL" else name


def library(name: str, package: str | None = None) -> ModuleType:
    """Import a library that only some parts of the package need, such as "librosa.onset".

    Args:
        package: the package to install, if its name differs.

    Raises:
        MachineError: the library is not installed, or cannot be imported.
    """
    top = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        if isinstance(problem, ModuleNotFoundError) and (problem.name or top).split(".")[0] == top:
            raise MachineError(f"this needs {package or top}: pip install {package or top}") from None
        raise MachineError(f"{top} is installed, and cannot be imported: {problem}") from None
