"""The contract of front ends: what lies between a waveform and the coefficients that a model works on.

Anything with these methods stands behind `separate`, `generate`, `accompany` and training: the MDCT, blocks of a
waveform, compressed spectrograms, or a transform of one's own. If it is orthonormal, the theory for waveforms holds for
the coefficients unchanged; if not, noise is white in the coefficients and not in the sound. Chapter:
`book/04-joint-unet.ipynb`.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from msdm_lite.utils.registry import Registry


class FrontEnd(Protocol):
    """A map from sounds to coefficients, and back.

    Attributes:
        hop: samples from one frame to the next.
        rows: coefficients of a frame.
    """

    hop: int
    rows: int

    def length(self, samples: int) -> int:
        """The number of frames that `encode` returns for so many samples."""
        ...

    def encode(self, wave: Tensor) -> Tensor:
        """Coefficients (..., rows, length(T)) of a sound (..., T) of any length.

        The map is linear in the sound for models whose mixture is the sum of the stems. Silence is assumed before and
        after: the first and the last frame may contain it. Frame l + 1 begins where sample l * hop does; or frame l, if
        the front end has an attribute `lead` of 0 instead of 1.
        """
        ...

    def decode(self, coefficients: Tensor, samples: int) -> Tensor:
        """The sound (..., samples) of coefficients (..., rows, L), the inverse of `encode`."""
        ...


# By the name in a model's configuration: each is built from the configured number of bins
FRONT_ENDS: Registry[Callable[[int], FrontEnd]] = Registry("front end")


def segment(front_end: FrontEnd, wave: Tensor, frames: int) -> Tensor:
    """Coefficients (..., rows, frames) of a crop (..., segment_samples), without its edges: as a sound goes on.

    A front end may have a method `segment(wave, frames)` that does the same with less work.
    """
    own = getattr(front_end, "segment", None)
    return own(wave, frames) if own else front_end.encode(wave)[..., lead(front_end) :][..., :frames]


def lead(front_end: FrontEnd) -> int:
    """The number of frames before the one that begins with the sound."""
    return getattr(front_end, "lead", 1)


def segment_samples(front_end: FrontEnd, frames: int) -> int:
    """The number of samples of a crop for `segment`: that of so many frames, and two more."""
    return (frames + 2) * front_end.hop
