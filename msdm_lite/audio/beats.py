"""Beat phase: the place of each moment of a song in its beat and in its bar.

A model that generates sketches (coarse spectrograms) of all stems at once can be conditioned on it, as musicians follow
a click track. It has four rows: the sine and cosine of the place in the beat, and those of the place in the bar. All
four are zero without beat conditioning. Chapter: `book/06-total-generation.ipynb`.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.utils.imports import library

if TYPE_CHECKING:
    import mido

ROWS = 4  # sine and cosine of the place in the beat, then of that in the bar
FOREVER = 1e5  # seconds for which the last tempo of a song is continued


def grid(song: "mido.MidiFile") -> np.ndarray:
    """Seconds, beats and bars since the start at every change of tempo or metre, and far behind the end: (n, 3).

    A beat is the denominator of the metre: a quarter in 3/4, an eighth in 6/8.
    """
    second = beat = bar = 0.0
    tempo, metre = 500000, (4, 4)
    points = [(second, beat, bar)]

    def on(ticks: float) -> tuple[float, float, float]:
        quarters = ticks / song.ticks_per_beat
        beats = quarters * metre[1] / 4
        return second + quarters * tempo / 1e6, beat + beats, bar + beats / metre[0]

    for message in library("mido").merge_tracks(song.tracks):
        second, beat, bar = on(message.time)
        if message.type == "set_tempo":
            tempo = message.tempo
        elif message.type == "time_signature":
            metre = message.numerator, message.denominator
            bar = float(round(bar))  # a bar begins at a new metre
        else:
            continue
        points.append((second, beat, bar))
    points.append(on(FOREVER * 1e6 / tempo * song.ticks_per_beat))
    return np.array(points)


def phases(where: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The beat phase at times `seconds` (L,) of a song with the grid `where`: (4, L) float32."""
    turns = [2 * np.pi * np.interp(seconds, where[:, 0], where[:, row]) for row in (1, 2)]
    return np.stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)]).astype(np.float32)


def steady(frames: int, frame_seconds: float, tempo: float, metre: int = 4, start: float = 0.0) -> Tensor:
    """The beat phase of a constant tempo and metre: (4, frames) float32.

    Args:
        frame_seconds: seconds from one frame to the next.
        tempo: beats per minute.
        metre: beats in a bar.
        start: seconds from the first frame to the first beat of a bar.

    Raises:
        InputError: the tempo is not within 20 to 400, the metre is below 1, or the start is not finite.
    """
    if not 20 <= tempo <= 400 or metre < 1 or not math.isfinite(start):
        raise InputError(f"beat conditioning has 20 to 400 beats a minute and 1 or more a bar, not {tempo} and {metre}")
    beats = (np.arange(frames) * frame_seconds - start) * tempo / 60
    where = np.array([[-FOREVER] * 3, [FOREVER] * 3])
    where[:, 2] /= metre
    return torch.from_numpy(phases(where, beats))


def silent(like: Tensor) -> Tensor:
    """No beat conditioning, for a batch (B, ..., L): zeros (B, 4, L)."""
    return like.new_zeros(len(like), ROWS, like.shape[-1])
