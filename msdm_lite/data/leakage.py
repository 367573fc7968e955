"""Leakage between splits: four-bar windows of notes, compared between all songs of two splits.

A window is a set of (stem, sixteenth, pitch); pitches are relative to the first note of the bass, so that a transposed
song is recognised. Two windows are *in common* if their intersection is at least 0.7 of their union (Jaccard): MMA
varies notes and velocities at random, so that exact equality would find nothing. Data card: `data/README.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from msdm_lite.audio.io import STEMS
from msdm_lite.data import midi
from msdm_lite.data.corpus import Song
from msdm_lite.data.midi import mido
from msdm_lite.utils.imports import library

BARS = 4
OVERLAP = 0.7
NEAR_DUPLICATE = 0.2  # a song is a near-duplicate of another if they have more than this share of its windows in common
FEWEST = 16  # notes; windows with fewer are not compared


@lru_cache(maxsize=4096)
def _notes(path: Path) -> tuple[np.ndarray, int]:
    """`notes` of a file, cached, because reading MIDI is slow and songs are compared many times."""
    return notes(midi.read(path))


def notes(song: mido.MidiFile) -> tuple[np.ndarray, int]:
    """(sixteenth, stem, pitch) of every note in the four families, sorted, (N, 3); and the sixteenths per bar."""
    programs, found, bar = [0] * 16, set(), 16
    signatures = [m for track in song.tracks for m in track if m.type == "time_signature"]
    if signatures:
        bar = max(1, round(16 * signatures[0].numerator / signatures[0].denominator))
    for tick, message in midi.in_order(song, "program_change", "note_on"):
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.velocity:
            stem = midi.family(programs[message.channel], message.channel)
            if stem:
                found.add((round(tick * 4 / song.ticks_per_beat), STEMS.index(stem), message.note))
    return np.array(sorted(found)).reshape(-1, 3), bar


def windows(path: Path, hop: int = BARS, stems: Sequence[str] = STEMS) -> list[np.ndarray]:
    """The four-bar windows of a MIDI file, each as a sorted array of one integer per note.

    Args:
        hop: bars from one window to the next.
        stems: the stems that are compared.
    """
    every, bar = _notes(path)
    every = every[np.isin(every[:, 1], [STEMS.index(stem) for stem in stems])]
    if not len(every):
        return []
    out = []
    drums, bass = STEMS.index("drums"), STEMS.index("bass")
    for first in range(0, max(1, int(every[-1, 0]) // bar - BARS + 2), hop):
        low, high = np.searchsorted(every[:, 0], [first * bar, (first + BARS) * bar])
        window = every[low:high].copy()
        if len(window) < FEWEST:
            continue
        pitched = window[:, 1] != drums
        root = window[window[:, 1] == bass, 2][:1]
        if not len(root):
            root = window[pitched, 2][:1]
        if len(root):
            window[pitched, 2] -= root[0]
        window[:, 0] -= first * bar
        out.append(np.unique((window[:, 0] * len(STEMS) + window[:, 1]) * 256 + window[:, 2] + 128))
    return out


@dataclass(frozen=True)
class Similarity:
    """A song of one split, and the song of the other split that has most windows in common with it."""

    song: Song
    other: Song
    share: float  # share of the song's windows that are in common with the other song's


def similarity(ones: Sequence[Song], others: Sequence[Song], stems: Sequence[str] = STEMS) -> list[Similarity]:
    """For each song of `ones`, the nearest of `others` (never itself) by the share of windows in common.

    Windows of `ones` start every four bars, those of `others` at every bar.
    """
    csr_matrix = library("scipy.sparse").csr_matrix

    def sets(songs: Sequence[Song], hop: int) -> tuple:
        found = [windows(song.midi(), hop, stems) for song in songs]
        owner = np.repeat(np.arange(len(songs)), [len(w) for w in found])
        flat = [w for song in found for w in song]
        sizes = np.array([len(w) for w in flat], int)
        ends = np.concatenate([[0], sizes.cumsum()])
        indices = np.concatenate(flat) if flat else np.zeros(0, int)
        return csr_matrix((np.ones(len(indices), np.float32), indices, ends), (len(flat), 1 << 20)), sizes, owner

    a, size_a, owner_a = sets(ones, BARS)
    b, size_b, owner_b = sets(others, 1)
    out = []
    for row, song in enumerate(ones):
        mine = owner_a == row
        if not mine.any() or not len(size_b):
            continue
        both = np.asarray((a[mine] @ b.T).todense())  # (windows of the song, windows of the others)
        common = both >= OVERLAP * (size_a[mine][:, None] + size_b - both)
        share = np.zeros(len(others))
        for column in np.unique(owner_b[common.any(0)]):
            if others[column] != song:
                share[column] = common[:, owner_b == column].any(1).mean()
        best = int(share.argmax())
        out.append(Similarity(song, others[best], float(share[best])))
    return out
