"""A click track: where each moment of a song lies in its beat and in its bar.

Players who cannot see each other follow a click. A model that sketches a whole band at once has the same need: it can
be conditioned on four rows of numbers a frame, the sine and cosine of the place in the beat and in the bar. All four
are zero where nobody counts. Chapter: `book/06-total-generation.ipynb`.
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

ROWS = 4  # sine and cosine, of beat and bar
FOREVER = 1e5  # seconds: the last tempo of a song goes on


def grid(song: "mido.MidiFile") -> np.ndarray:
    """(n, 3): seconds, beats and bars since the start wherever tempo or metre change, and at a far end.

    A beat is what the metre counts: a quarter in 3/4, an eighth in 6/8.
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
            bar = float(round(bar))  # a new metre begins with a bar
        else:
            continue
        points.append((second, beat, bar))
    points.append(on(FOREVER * 1e6 / tempo * song.ticks_per_beat))
    return np.array(points)


def phases(where: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The click at such times (L,) of a song with that grid: (4, L) float32."""
    turns = [2 * np.pi * np.interp(seconds, where[:, 0], where[:, row]) for row in (1, 2)]
    return np.stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)]).astype(np.float32)


def steady(frames: int, frame_seconds: float, tempo: float, metre: int = 4, start: float = 0.0) -> Tensor:
    """A click that never changes: (4, frames).

    Args:
        tempo: beats per minute.
        metre: beats in a bar.
        start: seconds from the first frame to the first beat of a bar.

    Raises:
        InputError: a tempo that is none, from 20 to 400, or a bar without beats.
    """
    if not 20 <= tempo <= 400 or metre < 1 or not math.isfinite(start):
        raise InputError(f"a click has 20 to 400 beats a minute and a beat or more in a bar, not {tempo} and {metre}")
    beats = (np.arange(frames) * frame_seconds - start) * tempo / 60
    where = np.array([[-FOREVER] * 3, [FOREVER] * 3])
    where[:, 2] /= metre
    return torch.from_numpy(phases(where, beats))


def silent(like: Tensor) -> Tensor:
    """Nobody counts, for pictures (B, ..., L): (B, 4, L) zeros."""
    return like.new_zeros(len(like), ROWS, like.shape[-1])
