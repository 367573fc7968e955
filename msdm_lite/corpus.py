"""The songs there are, on which side of the split, and how they reach a model.

Two kinds of music. *Band songs* were written by a program (`msdm_lite.compose`); their MIDI ships in `data/songs`.
*Composed songs* were written by people; their MIDI comes from Debian packages and is fetched when needed. Both are
rendered by `msdm_lite.render` into a cache, once. Test songs are never trained on, and neither is a style of theirs.
"""

import csv
import hashlib
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from msdm_lite import debian
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError
from msdm_lite.resources import cache, data

RENDERING = 1  # raised when the renderer changes, so that no cached audio of an older one is used
COMPOSED = {"simutrans-data": "usr/share/games/simutrans/music"}  # package -> folder of its MIDI files


@dataclass(frozen=True)
class Song:
    """One song of the corpus."""

    name: str
    source: str  # "band", or the Debian package it comes from
    split: str  # "train", "val" or "test"
    style: str
    licence: str

    def midi(self) -> Path:
        """The MIDI file; that of a composed song is fetched on the first call."""
        if self.source == "band":
            return data("songs", "band", f"{self.name}.mid")
        return debian.fetch(self.source) / COMPOSED[self.source] / f"{self.name}.mid"

    def audio(self) -> Path:
        """Where the rendered stems are, or will be: a (4, T) array of 16-bit integers."""
        return cache("corpus", f"v{RENDERING}", self.source, f"{self.name}.npy")


def songs(split: str | None = None, source: str | None = None) -> list[Song]:
    """All songs of the corpus, or those of one split or source, in a fixed order."""
    found = []
    with open(data("songs", "band.tsv"), newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.append(Song(row["name"], "band", row["split"], row["style"], "MIT"))
    with open(data("songs", "composed.tsv"), newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.append(Song(row["name"], row["package"], row["split"], "composed", row["licence"]))
    return [s for s in found if split in (None, s.split) and source in (None, s.source)]


def _render(song: Song) -> Song:
    from msdm_lite.render import render

    stems = np.round(render(song.midi()) * 32767).astype(np.int16)
    target = song.audio()
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(f".{os.getpid()}.part")
    with open(scratch, "wb") as file:
        np.save(file, stems)
    scratch.replace(target)  # whole or not there
    return song


def build(split: str | None = None, source: str | None = None, workers: int | None = None) -> int:
    """Render what is missing; returns how many songs were rendered. It can be stopped and called again.

    Raises:
        InputError: FluidSynth or a Debian package is missing here.
    """
    missing = [song for song in songs(split, source) if not song.audio().exists()]
    if not missing:
        return 0
    for song in missing:
        song.midi()  # fetch here, once, and not in every worker
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = [pool.submit(_render, song) for song in missing]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="rendering", unit="song"):
            job.result()
    return len(missing)


class Crops(Dataset):
    """Random crops of rendered songs: a map-style dataset of (S, T) float32 tensors.

    Songs are drawn in proportion to their length. Item `i` of epoch `e` depends on (seed, e, i) alone, so any number
    of workers gives the same crops.

    Args:
        songs: which songs; each must have been rendered (`build`).
        samples: crop length T.
        length: how many crops make an epoch.
        gain_db: standard deviation of a random gain per stem; own files are not balanced like ours.
        silence: probability that a stem is silenced, so that a missing player is part of what is learned.

    Raises:
        InputError: no songs, or a song that is not rendered.
    """

    def __init__(self, songs: list[Song], samples: int, length: int, seed: int = 0, gain_db: float = 0.0,
                 silence: float = 0.0):
        if not songs:
            raise InputError("no songs to draw crops from")
        for song in songs:
            if not song.audio().exists():
                raise InputError(f"{song.name} is not rendered yet: run `msdm-lite data build`")
        self.arrays = [np.load(song.audio(), mmap_mode="r") for song in songs]
        self.samples, self.length, self.seed, self.epoch = samples, length, seed, 0
        self.gain_db, self.silence = gain_db, silence
        weights = np.array([max(array.shape[1] - samples, 1) for array in self.arrays], float)
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, self.epoch, index))
        array = self.arrays[rng.choice(len(self.arrays), p=self.weights)]
        start = rng.integers(max(array.shape[1] - self.samples, 0) + 1)
        crop = array[:, start : start + self.samples].astype(np.float32) / 32767
        crop = np.pad(crop, ((0, 0), (0, self.samples - crop.shape[1])))
        gains = 10 ** (self.gain_db * rng.standard_normal(len(STEMS)) / 20)
        gains[rng.random(len(STEMS)) < self.silence] = 0
        return torch.from_numpy(crop * gains[:, None].astype(np.float32))  # (S, T)


def window(song: Song, seconds: float, seed: int = 0, active: float = 0.5) -> int:
    """The first sample of a window drawn by rule: the first of 200 random ones in which every stem of the song sounds.

    Sounds: in at least a share `active` of its half-seconds the stem is within 30 dB of its level in the song. If none
    of the 200 will do, the one that comes closest.
    """
    stems = np.load(song.audio(), mmap_mode="r")
    size, step = int(seconds * SAMPLE_RATE), SAMPLE_RATE // 2
    floor = 10 ** (-30 / 20) * 0.06 * 32767
    rng = np.random.default_rng((seed, int(hashlib.sha256(song.name.encode()).hexdigest()[:8], 16)))
    plays = [row for row in stems if np.abs(row).max() > 0]
    best, best_share = 0, -1.0
    for start in rng.integers(0, max(stems.shape[1] - size, 0) + 1, 200):
        share = 1.0
        for row in plays:
            frames = row[start : start + size].astype(np.float32)
            frames = frames[: len(frames) // step * step].reshape(-1, step)
            share = min(share, float((np.sqrt((frames**2).mean(1)) > floor).mean()))
        if share > best_share:
            best, best_share = int(start), share
        if share >= active:
            break
    return best
