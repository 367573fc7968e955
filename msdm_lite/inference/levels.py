"""Sounds as a model can use them: without an offset and clicks, at a level that soft passages do not spoil.

What the result suffers from is said once on the logger "msdm_lite". The level itself is `audio.levels.repaired_rms`, in
training as well (`mixture_rms`). Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import logging

import torch
from torch import Tensor

from msdm_lite.audio import faults
from msdm_lite.audio.levels import INAUDIBLE, repaired_rms

LOG = logging.getLogger("msdm_lite")

TAKEN_OUT = "taken out, in no stem"  # what comes of an offset and of clicks
SOFT = 0.3  # share of a mixture that is more than 40 dB below the rest from which it is said


def prepared(wave: Tensor, sample_rate: int, what: str = "the mixture", effect: str = TAKEN_OUT,
             pauses: bool = False) -> tuple[Tensor, float]:
    """A sound (T,) without its offset and its clicks, and its active RMS; an ordinary sound is returned as it is.

    Args:
        what: the name of the sound in warnings.
        effect: what comes of the offset and the clicks, for the warnings.
        pauses: the sound may be soft for most of its length, as a stem may; of a mixture it is said.
    """
    if len(wave) and max(map(abs, wave.aminmax())) < 2**-15:  # below one step of 16 bits there is rounding alone
        sound, mean, found = wave, 0.0, list[tuple[int, int]]()
    else:
        sound, mean, found = faults.repaired(wave)
    rms = repaired_rms(sound, sample_rate // 4)
    lines = faults.about_repairs(mean, found, wave, sample_rate, f"({effect})")
    if not pauses and rms >= INAUDIBLE and (soft := _soft_share(sound, sample_rate // 4, rms)) > SOFT:
        lines.append(f"{100 * soft:.0f} % of it is more than 40 dB softer than the rest, which sets the level: the "
                     "stems are less good there")
    for line in [*lines, *_doubts(wave, rms)]:
        LOG.warning("%s: %s", what, line)
    return sound, rms


def _doubts(wave: Tensor, rms: float) -> list[str]:
    """A line for each property of a sound that spoils a separation, and that no gain mends."""
    lines = []
    if share := faults.clipped(wave):
        lines.append(faults.about_clipping(share))
    if 1e-12 < rms < INAUDIBLE:
        lines.append(f"very soft (RMS {rms:.1e} of full scale): noise and rounding are separated with it")
    return lines


def _soft_share(wave: Tensor, window: int, rms: float) -> float:
    """Share of windows that sound, and are more than 40 dB below an RMS."""
    whole = wave[: len(wave) // window * window].reshape(-1, window)
    if not len(whole) or rms <= 0:
        return 0.0
    levels = torch.linalg.vector_norm(whole, dim=1) / window**0.5
    return float(((levels < 1e-2 * rms) & (levels > 0)).float().mean())
