"""The corpus: its songs, their splits, and their rendered stems.

It has two kinds of songs. *Band songs* are written by a program (`msdm_lite.data.band_songs`); their MIDI ships in
`data/songs`. *Composed songs* are written by people; their MIDI comes from Debian packages and is fetched when needed
(`msdm_lite.data.composed_songs`). `msdm_lite.data.render` renders each once, into a cache. No model is trained on test
songs or on a groove family of theirs. Data card: `data/README.md`.
"""

import contextlib
import csv
import json
import logging
import os
import shutil
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from msdm_lite.audio import beats
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.audio.levels import STEM_RMS
from msdm_lite.data import composed_songs, variation
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils.files import written_whole
from msdm_lite.utils.paths import cache, data
from msdm_lite.utils.terminal import ignore_interrupts

LOG = logging.getLogger("msdm_lite")


RENDERING = 3  # raised when the renderer changes, so that cached audio of an older renderer is not used
BYTES_A_SECOND = 2 * len(STEMS) * SAMPLE_RATE


@lru_cache(maxsize=128)  # each keeps a file open, and some systems allow only 256 per process
def _stems(path: str) -> np.ndarray:
    """A song's samples (S, T) int16, memory-mapped."""
    return np.load(path, mmap_mode="r")


@lru_cache(maxsize=4096)
def _length(path: str) -> int:
    """Number of samples of a song; the file does not stay open."""
    return np.load(path, mmap_mode="r").shape[1]


@lru_cache(maxsize=4096)
def _notes(path: Path) -> str:
    """A checksum of a MIDI file, to notice that cached audio was rendered from other notes."""
    return f"{zlib.crc32(path.read_bytes()):08x}"


@lru_cache(maxsize=4096)
def _grid(path: Path) -> np.ndarray:
    """The grid of beats and bars of a MIDI file, cached, because reading the file takes a tenth of a second."""
    kept = cache("clicks", f"{path.stem}-{_notes(path)}.npy")
    if not kept.exists():
        from msdm_lite.data import midi  # which needs mido

        with written_whole(kept) as scratch, open(scratch, "wb") as file:
            np.save(file, beats.grid(midi.read(path)))
    return np.load(kept)


@lru_cache(maxsize=1)
def _tempi() -> dict[str, float]:
    """Beats per minute of every song by the program, by its name."""
    return {row["name"]: float(row["tempo"]) for row in table("band")}


@dataclass(frozen=True)
class Song:
    """A song of the corpus, or a variation of one. It is read like a track of `msdm_lite.data.readers`."""

    name: str
    source: str  # "band", or the Debian package it comes from
    split: str  # "train", "val" or "test"
    style: str  # the groove family of a band song, the genre of a composed one
    licence: str
    seconds: float = 0.0  # of the MIDI file; the rendered sound is longer
    changes: variation.Variation = variation.Variation()  # noqa: RUF009 (it is frozen)
    number: int = 0  # of the variation; 0 is the song as written
    balance: str = "rms"  # or "loudness": the measure in which the stems are made equal

    def midi(self) -> Path:
        """The MIDI file; that of a composed song is fetched on the first call."""
        if self.source == "band":
            return data("songs", "band", f"{self.name}.mid")
        return composed_songs.path(self.source, self.name)

    def audio(self) -> Path:
        """Where the rendered stems are, or will be: a (4, T) array of 16-bit integers."""
        changes = "-".join([self.changes.soundfont, *(f"{k}{v}" for k, v in sorted(self.changes.programs.items())),
                            *([f"t{self.changes.transpose:+d}"] if self.changes.transpose else [])])
        return cache("corpus", f"v{RENDERING}", changes if self.number == 0 else f"variation{self.number}",
                     self.source, f"{self.name}.npy" if self.number == 0 else f"{self.name}-{changes}.npy")

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in order."""
        return STEMS

    @property
    def stem_rms(self) -> float | None:
        """Active RMS of each stem that plays, where the stems are balanced by it."""
        return STEM_RMS if self.balance == "rms" else None

    @property
    def tempo(self) -> float | None:
        """Beats per minute of a song by the program; None of one that people wrote, which may change."""
        return _tempi().get(self.name) if self.source == "band" and not self.number else None

    @property
    def ready(self) -> bool:
        """Whether the song is rendered, and the gains of its balance are computed."""
        return self.rendered and (self.balance == "rms" or self._gains_file().exists())

    @property
    def rendered(self) -> bool:
        """Whether its sound is in the cache, rendered from the current notes; band songs can be composed again."""
        if not self.audio().exists():
            return False
        mark = self._mark()
        return self.source != "band" or not mark.exists() or mark.read_text() == _notes(self.midi())

    @property
    def samples(self) -> int:
        """Length at 22 050 Hz."""
        return _length(str(self.audio()))

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray:
        """`count` samples from `start` on, to the end if None: (S, count) float32, zeros past the end."""
        stems = _stems(str(self.audio()))
        count = max(0, stems.shape[1] - start) if count is None else count
        found = stems[:, start : start + count].astype(np.float32) / 32767
        found = np.pad(found, ((0, 0), (0, count - found.shape[1])))
        return found * self._gains()[:, None] if self.balance == "loudness" else found

    def beat_phase(self, seconds: np.ndarray) -> np.ndarray:
        """The beat phase at times (L,) in seconds, (4, L), as in `msdm_lite.audio.beats`."""
        return beats.phases(_grid(self.midi()), seconds)

    def _mark(self) -> Path:
        return self.audio().with_suffix(".notes")

    def _gains_file(self) -> Path:
        return self.audio().with_suffix(".loudness.json")

    def _gains(self) -> np.ndarray:
        return np.array(json.loads(self._gains_file().read_text()), np.float32)


def table(name: str) -> list[dict]:
    """The shipped list of the "band" or the "composed" songs, one dictionary of columns per song."""
    with open(data("songs", f"{name}.tsv"), newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def songs(split: str | None = None, source: str | None = None, variations: int = 0, balance: str = "rms",
          **switches: bool) -> list[Song]:
    """The songs of the corpus in a fixed order.

    Args:
        split: "train", "val" or "test"; all if None.
        source: "band", "composed", or a Debian package of composed songs; all if None.
        variations: number of variations of each *training* song, which come after the songs as written.
        balance: "rms" or "loudness", the measure in which the stems are made equal.
        switches: `programs`, `transpose` and `soundfonts`, True by default: what a variation changes.

    Raises:
        InputError: the split, source or balance does not exist, or `variations` is below 0.
    """
    if split not in (None, "train", "val", "test"):
        raise InputError(f"split is train, val or test, not {split!r}")
    if balance not in ("rms", "loudness"):
        raise InputError(f"balance is rms or loudness, not {balance!r}")
    if variations < 0:
        raise InputError(f"variations are counted from 0, not {variations}")
    found = [Song(row["name"], "band", row["split"], row["family"], "MIT", float(row["seconds"]))
             for row in table("band")]
    found += [Song(row["name"], row["package"], row["split"], row["genre"], row["licence"], float(row["seconds"]))
              for row in table("composed")]
    sources = {song.source for song in found}
    if source not in (None, "composed", *sources):
        raise InputError(f"source is composed, {', '.join(sorted(sources))}, not {source!r}")
    found = [replace(song, balance=balance) for song in found
             if split in (None, song.split) and (source in (None, song.source)
                                                 or (source == "composed" and song.source != "band"))]
    more = [replace(song, number=n, changes=variation.draw(song.name, n, **switches))
            for n in range(1, variations + 1) for song in found if song.split == "train"]
    return found + more


def _render(song: Song) -> None:
    """Render the stems of a song, and compute its gains, where they are missing."""
    from msdm_lite.audio import levels
    from msdm_lite.data import render

    if not song.rendered:
        song._gains_file().unlink(missing_ok=True)
        stems = np.round(render.render(song.midi(), variation=song.changes) * 32767).astype(np.int16)
        song.audio().unlink(missing_ok=True)  # of other notes
        if song.source == "band":  # before the sound: if killed in between, no sound is taken for that of these notes
            with written_whole(song._mark()) as scratch:
                scratch.write_text(_notes(song.midi()))
        with written_whole(song.audio()) as scratch, open(scratch, "wb") as file:
            np.save(file, stems)
    if song.balance == "loudness" and not song.ready:
        gains = levels.loudness_gains(replace(song, balance="rms").read())
        with written_whole(song._gains_file()) as scratch:
            scratch.write_text(json.dumps(gains.tolist()))


def build(wanted: list[Song] | None = None, workers: int | None = None, skip: bool = False,
          progress: bool = True) -> int:
    """Render the songs that are missing; returns their number. An interrupted call can be repeated.

    Args:
        wanted: the songs; all songs as written if None.
        workers: number of processes; one per core if None.
        skip: leave out, with a warning, the songs whose package cannot be fetched.
        progress: show a progress bar.

    Raises:
        InputError: FluidSynth or a Debian package is missing, the disk is full, or songs could not be rendered.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers must be 1 or more, not {workers}")
    missing = [song for song in (songs() if wanted is None else wanted) if not song.ready]
    if not missing:
        return 0
    sources = sorted({song.source for song in missing} - {"band"})
    for source in sources:
        try:
            for song in missing:
                if song.source == source:
                    song.midi()  # fetched here once, not in every worker
        except InputError as problem:
            if not skip:
                raise InputError(f"{problem}; or leave its songs out with --skip") from None
            LOG.warning("%s; its songs are left out", problem)
            missing = [song for song in missing if song.source != source]
    if not missing:
        return 0
    from msdm_lite.data import render

    for font in sorted({song.changes.soundfont for song in missing if not song.rendered}):
        render.soundfont(font)  # fetched here, once, like the songs
    root = cache("corpus")
    root.mkdir(parents=True, exist_ok=True)
    for scrap in root.rglob("*.part"):  # of a killed run; younger files may belong to a run in progress
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            if time.time() - scrap.stat().st_mtime > 3600:
                scrap.unlink()
    need = sum((song.seconds + 2) * BYTES_A_SECOND for song in missing if not song.rendered)
    free = shutil.disk_usage(root).free
    if need > free:
        raise InputError(f"the songs need {need / 1e9:.1f} GB in {root}, and {free / 1e9:.1f} GB are free; "
                         "$MSDM_LITE_CACHE names another place")
    failed: list[str] = []
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=ignore_interrupts) as pool:
        jobs = {pool.submit(_render, song): song for song in sorted(missing, key=lambda s: -s.seconds)}
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="rendering", unit="song", disable=not progress):
                try:
                    job.result()
                except MachineError:
                    raise  # the other songs would fail too
                except InputError as problem:
                    failed.append(f"{jobs[job].name} ({problem})")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise InputError(f"{len(failed)} of {len(missing)} songs could not be rendered, for example {failed[0]}")
    return len(missing)
