"""Crops for training: a map-style data set over tracks, those of the corpus or a user's own stems.

A track has the protocol `msdm_lite.data.tracks.Track`: `data.corpus.Song` or `data.tracks.FileTrack`. Chapter:
`book/05-training.ipynb`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch.utils.data import Dataset

from msdm_lite.audio.beats import ROWS
from msdm_lite.audio.io import MIX, SAMPLE_RATE, STEMS
from msdm_lite.data import corpus, readers
from msdm_lite.data.tracks import Track, require_rendered
from msdm_lite.errors import InputError
from msdm_lite.utils.paths import expanded

LOG = logging.getLogger("msdm_lite")

CORPUS = ("band", "composed", "all")  # names of data that are songs of the corpus, and no folder


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a crop. A value of zero switches a change off; by default all are off."""

    gain_db: float = 0.0  # standard deviation of a random gain of each stem, since a user's stems are not balanced
    silence: float = 0.0  # probability that a stem is silenced, so that a model is trained on missing stems too
    remix: float = 0.0  # probability of mismatched stems, each drawn from a song of its own: sound without context
    detune: float = 0.0  # cents: half the crops are resampled to another speed, all stems alike, by at most this much


class Crops(Dataset):
    """Random crops of tracks: a map-style dataset of dictionaries.

    `stems` is (S, T) float32, `name` the name of the track, `start` the first sample in it. With `beat_hop`,
    `beat_phase` (4, ceil(T / beat_hop)) is the place in beat and bar once every `beat_hop` samples; it is zero for
    tracks without a method `beat_phase(seconds)` and for mismatched stems. Tracks are drawn in proportion to their
    length minus T, short ones to their length; what a short track lacks is silence. Item `i` depends on the seed and
    `i` alone, so any number of workers gives the same crops in the same order.

    Args:
        tracks: the tracks to draw crops from.
        samples: crop length T.
        length: number of crops in an epoch.
        augmentation: random changes; none if not given. Test tracks are never augmented.
        beat_hop: samples between two values of the beat phase; 0 leaves it out.

    Raises:
        InputError: there are no tracks, a song is not rendered, or test tracks would be augmented.
    """

    def __init__(self, tracks: Sequence[Track], samples: int, length: int, seed: int = 0,
                 augmentation: Augmentation | None = None, beat_hop: int = 0):
        if not tracks:
            raise InputError("no songs to draw crops from")
        require_rendered(tracks)
        self.augmentation = augmentation or Augmentation()
        if self.augmentation != Augmentation() and any(track.split == "test" for track in tracks):
            raise InputError("test songs are used as they are: no augmentation for them")
        self.tracks = list(tracks)
        self.stems = self.tracks[0].stems
        if others := [track for track in self.tracks if track.stems != self.stems]:
            raise InputError(f"{others[0].name} has the stems {', '.join(others[0].stems)}, and {self.tracks[0].name} "
                             f"{', '.join(self.stems)}")
        self.samples, self.length, self.seed, self.beat_hop = samples, length, seed, beat_hop
        self.lengths = np.array([track.samples for track in self.tracks])
        # By the number of places for a crop; of a track shorter than two crops by its length, so that short ones are
        # drawn as well
        weights = np.maximum(self.lengths - samples, np.minimum(self.lengths, samples)).astype(float)
        self.cumulative = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return self.length

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
        which = min(int(np.searchsorted(self.cumulative, rng.random(), "right")), len(self.tracks) - 1)
        return which, int(rng.integers(max(self.lengths[which] - self.samples, 0) + 1))

    def _read(self, track: Track, start: int, cents: float) -> np.ndarray:
        """Stems (S, T) from `start` on, all detuned by so many cents."""
        if not cents:
            return track.read(start, self.samples)
        speed = 2 ** (cents / 1200)
        resampled = soxr.resample(track.read(start, int(self.samples * speed) + 16).T, speed, 1.0)
        return np.ascontiguousarray(resampled[: self.samples].T, np.float32)

    def plan(self, index: int) -> dict:
        """The plan of item `index`: all random choices. No samples are read.

        It has for each stem the number of its track, `tracks` (S,), its first sample there, `starts` (S,), and its
        `gains` (S,); the `cents` by which all are detuned; `name` and `start` of the first stem's track; and, with
        `beat_hop`, its `beat_phase`.

        Raises:
            IndexError: there is no such item.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, 0, index))
        change = self.augmentation
        which, start = self._draw(rng)
        cents = change.detune * rng.uniform(-1, 1) * (rng.random() < 0.5) if change.detune else 0.0
        gains = 10 ** (change.gain_db * rng.standard_normal(len(self.stems)) / 20)
        gains[rng.random(len(self.stems)) < change.silence] = 0
        places = [(which, start)] * len(self.stems)
        remixed = rng.random() < change.remix
        if remixed:
            places[1:] = [self._draw(rng) for _ in self.stems[1:]]
        tracks, starts = np.array(places).T
        track = self.tracks[which]
        plan = {"name": track.name, "start": start, "tracks": tracks, "starts": starts, "cents": cents,
                "gains": gains.astype(np.float32)}
        return plan | {"beat_phase": self._beat_phase(track, start, cents, remixed)} if self.beat_hop else plan

    def __getitem__(self, index: int) -> dict:
        plan = self.plan(index)
        which, start, cents = plan["tracks"][0], plan["start"], plan["cents"]
        crop = self._read(self.tracks[which], start, cents)
        for row, (other, place) in enumerate(zip(plan["tracks"], plan["starts"], strict=True)):
            if (other, place) != (which, start):
                crop[row] = self._read(self.tracks[other], int(place), cents)[row]
        stems = crop * plan["gains"][:, None]
        item = {"stems": torch.from_numpy(stems), "name": plan["name"], "start": start}
        return item | {"beat_phase": torch.from_numpy(plan["beat_phase"])} if self.beat_hop else item

    def _beat_phase(self, track: Track, start: int, cents: float, remixed: bool) -> np.ndarray:
        """Beat phase (4, places) of a crop: zeros for tracks without beats, and for mismatched stems."""
        seconds = (start + np.arange(0, self.samples, self.beat_hop) * 2 ** (cents / 1200)) / SAMPLE_RATE
        counted = getattr(track, "beat_phase", None)
        return counted(seconds) if counted and not remixed else np.zeros((ROWS, len(seconds)), np.float32)


def crops_enough(tracks: Sequence[Track], samples: int, most: int, times: int) -> int:
    """Number of crops of so many samples that are as long as all tracks together `times` over: 4 to `most`, or `most`.

    More crops of little music measure the same music again.
    """
    require_rendered(tracks)
    long = times * sum(track.samples for track in tracks)
    return min(most, max(4, -(-long // samples)))


def songs_of(data: str, split: str, variations: int = 0, balance: str = "rms", stems: Sequence[str] | None = None,
             **switches: bool) -> Sequence[Track]:
    """The songs of a split of the data that a recipe names: "band", "composed", "all", or a folder of stems.

    In a folder without splits the first tenth of the songs by name, at least one, is for validation, and the others are
    for training (the only song is for both). The split "test" is then all songs, with a warning. In a folder with
    training songs and no validation songs, as MUSDB18-HQ, a tenth of the training songs is held out, drawn by a fixed
    seed; a message names them when the split "train" is asked for.

    Args:
        stems: names of the stems in a folder; those of the corpus if None.

    Raises:
        InputError: `data` is neither, or the folder has no such songs.
    """
    if data in CORPUS:
        return corpus.songs(split, None if data == "all" else data, variations, balance, **switches)
    if variations or balance != "rms" or not all(switches.values()):
        raise InputError("variations and balance are of the corpus: a folder of stems is taken as it is")
    if not expanded(data).exists():
        raise InputError(f"data is band, composed, all or a folder of stems, not {data!r}")
    # A model of some stems of the corpus is trained on its crops
    wanted = STEMS if stems is None or set(stems) <= {*STEMS, MIX} else stems
    found = part(readers.find(data, stems=wanted), split, data)
    if not found:
        raise InputError(f"{data} has no songs of the split {split!r}")
    return found


def part(tracks: Sequence[Track], split: str, name: str) -> list[Track]:
    """The tracks of a split, "train", "val" or "test"; the rules are those of `songs_of`. `name` is of the whole."""
    if any(track.split for track in tracks):
        found = [track for track in tracks if track.split == split]
        if split in ("train", "val") and not any(track.split == "val" for track in tracks):
            found = _held_out(name, [track for track in tracks if track.split == "train"], split)
        return found
    held = max(1, len(tracks) // 10)
    if split == "test":
        LOG.warning("%s names no test songs: all of it is taken; a model trained on it has seen these songs", name)
        return list(tracks)
    return list(tracks[:held] if split == "val" else tracks[held:] or tracks)


def _held_out(data: str, tracks: list[Track], split: str) -> list[Track]:
    """Of the training songs of a folder without validation songs: those of the split."""
    if len(tracks) < 2:
        return tracks if split == "train" else []  # a single song cannot be both
    chosen = np.random.default_rng(0).permutation(len(tracks))[: max(1, len(tracks) // 10)]
    held = {tracks[i].name for i in chosen}
    if split == "train":
        LOG.warning("%s has no validation songs: of its training songs %s held out (seed 0): %s", data,
                    "one is" if len(held) == 1 else f"{len(held)} are", ", ".join(sorted(held)))
    return [track for track in tracks if (track.name in held) == (split == "val")]
