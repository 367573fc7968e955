"""Multi-source music diffusion, small enough to read and real enough to use.

    import msdm_lite
    model = msdm_lite.load("lite")
    stems = msdm_lite.separate("song.mp3", model)

The book that teaches it is in `book/`; the paper is arXiv 2302.02257.
"""

__version__ = "0.1.0"

from msdm_lite import device as _device

_device.tune_allocator()  # before torch makes its first large tensor

from msdm_lite.audio import SAMPLE_RATE, STEMS  # noqa: E402
from msdm_lite.errors import InputError  # noqa: E402
from msdm_lite.generation import accompany, generate  # noqa: E402
from msdm_lite.separation import separate  # noqa: E402
from msdm_lite.weights import load  # noqa: E402

__all__ = ["SAMPLE_RATE", "STEMS", "InputError", "accompany", "generate", "load", "separate"]
