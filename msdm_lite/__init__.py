"""Multi-source music diffusion, small enough to read and real enough to use.

    import msdm_lite
    model = msdm_lite.load("lite")
    stems = msdm_lite.separate("song.mp3", model)

The book that teaches it is in `book/`; the paper is arXiv 2302.02257.
"""

import importlib

__version__ = "0.1.0"

# Name -> the module that defines it; imported when it is asked for, so that `import msdm_lite` stays quick
_HOMES = {
    "SAMPLE_RATE": "audio.io", "STEMS": "audio.io", "InputError": "errors",
    "accompany": "inference.accompaniment", "generate": "inference.generation", "load": "models.weights",
    "separate": "inference.separation", "tune": "utils.device",
}

__all__ = ["SAMPLE_RATE", "STEMS", "InputError", "accompany", "generate", "load", "separate", "tune"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
