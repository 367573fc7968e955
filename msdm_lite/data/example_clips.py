"""The shipped clips: excerpts of test songs, chosen by a rule, and the list of hashes that fixes the test sets.

Data card: `data/README.md`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.audio.levels import STEM_RMS
from msdm_lite.data import corpus
from msdm_lite.data.recordings import LICENCES, ROWS, recordings
from msdm_lite.data.tracks import Track
from msdm_lite.errors import InputError
from msdm_lite.utils import paths

RULE = ("One window a song. Band: test songs in order of name, taking one of each groove family in turn, until there "
        "are enough. Composed: test songs with the most seconds of the most stems, in order of name. Recordings: the "
        "first by name of each package whose licence lets it be passed on. The window: the first of 200 random starts "
        "in which every stem of the song sounds in at least half of the half-seconds, or the nearest to that.")


def choose(kind: str, count: int) -> list:
    """The songs for `count` clips of a kind ("band", "composed" or "recording"), by `RULE`."""
    if kind == "recording":
        found = {recording.source: recording for recording in reversed(recordings()) if recording.source in LICENCES}
        return [found[source] for source in sorted(found)][:count]
    test = corpus.songs("test", kind)
    if kind == "band":
        turn: dict[str, int] = {}
        ranked = []
        for song in test:
            turn[song.style] = turn.get(song.style, 0) + 1
            ranked.append((turn[song.style], song.name, song))
        return [song for *_, song in sorted(ranked, key=lambda r: r[:2])][:count]

    def together(song: corpus.Song) -> tuple:
        row = next(row for row in corpus.table("composed") if row["name"] == song.name)
        return -min(30.0, float(row["n4"])), -min(30.0, float(row["n3"])), song.name

    return sorted(test, key=together)[:count]


def test_song_hashes() -> dict[str, str]:
    """The SHA-256 hash of the MIDI file of every test song, by name. All models are scored on these songs.

    Raises:
        InputError: a song differs from its hash in clips.json; take the hash away there to list another.
    """
    return {song.name: hashlib.sha256(song.midi().read_bytes()).hexdigest() for song in corpus.songs("test")}


def write(folder: str | Path, band: int = 24, composed: int = 6, recorded: int = 2, seconds: float = 6.0,
          seed: int = 0) -> Path:
    """Write clips to `folder/*.flac`, one channel per stem, and their list with `test_song_hashes` to clips.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    corpus.build(corpus.songs("test"))
    listed = []
    for kind, count in (("band", band), ("composed", composed), ("recording", recorded)):
        for number, song in enumerate(tqdm(choose(kind, count), desc=f"{kind} clips", unit="clip")):
            start = choose_window(song, seconds, seed)
            name = f"{kind}_{number:02d}"
            listed.append(_cut(song, start, seconds, folder / f"{name}.flac") | {"kind": kind})
    path = folder / "clips.json"
    path.write_text(json.dumps({"rule": RULE, "seed": seed, "clips": listed, "test_songs": test_song_hashes()},
                               indent=1) + "\n")
    return path


def _cut(song: Any, start: int, seconds: float, path: Path) -> dict:
    stems = np.round(song.read(start, int(seconds * SAMPLE_RATE)) * 32767).astype(np.int16)
    soundfile.write(path, stems.T, SAMPLE_RATE, subtype="PCM_16")
    recorded = len(stems) == len(ROWS)
    return {"name": path.stem, "song": song.name, "source": song.source,
            "style": song.artist if recorded else song.style, "licence": song.licence,
            "stems": list(ROWS if recorded else STEMS), "start": round(start / SAMPLE_RATE, 3), "seconds": seconds,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def choose_window(track: Track, seconds: float, seed: int = 0, active: float = 0.5) -> int:
    """The first sample of a window: the first of 200 random windows in which every stem of the song is active.

    A stem is active if its RMS is above -30 dB relative to `STEM_RMS` in at least a share `active` of the half-seconds.
    If there is no such window, the one with the highest share for its least active stem is chosen.
    """
    stems = track.read()
    size, step = int(seconds * SAMPLE_RATE), SAMPLE_RATE // 2
    floor = 10 ** (-30 / 20) * STEM_RMS
    rng = np.random.default_rng((seed, int(hashlib.sha256(track.name.encode()).hexdigest()[:8], 16)))
    plays = [row for row in stems if np.abs(row).max() > 0]
    best, best_share = 0, -1.0
    for start in rng.integers(0, max(stems.shape[1] - size, 0) + 1, 200):
        share = 1.0
        for row in plays:
            frames = row[start : start + size]
            frames = frames[: len(frames) // step * step].reshape(-1, step)
            share = min(share, float((np.sqrt((frames**2).mean(1)) > floor).mean()))
        if share > best_share:
            best, best_share = int(start), share
        if share >= active:
            break
    return best


def clips(kind: str = "band") -> list[dict]:
    """The shipped clips of held-out songs: name, song, style, start in seconds.

    Args:
        kind: "band"; "composed" for music written by people; "recording" for recordings of musicians.

    Raises:
        InputError: there is no such kind.
    """
    with open(paths.data("clips", "clips.json")) as file:
        found = [clip for clip in json.load(file)["clips"] if clip["kind"] == kind]
    if not found:
        raise InputError(f"there are no clips of kind {kind!r}: band, composed or recording")
    return found


def clip(name: str) -> Tensor:
    """The stems of a shipped clip at 22 050 Hz: (4, T) in the order of `STEMS`; of a recording (2, T) as in `ROWS`."""
    return audio_io.load(paths.data("clips", f"{name}.flac"), mono=False)
