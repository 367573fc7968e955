"""The clips that ship: short four-stem cuts of test songs, chosen by rule and not by ear."""

import hashlib
import json
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from msdm_lite import corpus
from msdm_lite.audio import SAMPLE_RATE

RULE = ("One window a song. Band: test songs in order of name, taking one of each style in turn, until there are "
        "enough. Composed: test songs with the most stems, in order of name. The window: the first of 200 random "
        "starts in which every stem of the song sounds in at least half of the half-seconds, or the nearest to that.")


def choose(kind: str, count: int) -> list[corpus.Song]:
    """The songs of the clips, by the rule above."""
    test = [song for song in corpus.songs("test") if (song.source == "band") == (kind == "band")]
    if kind == "band":
        turn: dict[str, int] = {}
        ranked = []
        for song in test:
            turn[song.style] = turn.get(song.style, 0) + 1
            ranked.append((turn[song.style], song.name, song))
        return [song for *_, song in sorted(ranked, key=lambda r: r[:2])][:count]

    def stems(song: corpus.Song) -> int:
        return int((np.abs(np.load(song.audio(), mmap_mode="r")).max(1) > 0).sum())

    return sorted(test, key=lambda song: (-stems(song), song.name))[:count]


def write(folder: str | Path, band: int = 24, composed: int = 6, seconds: float = 6.0, seed: int = 0) -> Path:
    """Cut the clips into `folder/*.flac` (four channels: bass, drums, guitar, piano) and list them in clips.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    corpus.build("test")
    listed = []
    for kind, count in (("band", band), ("composed", composed)):
        for song in tqdm(choose(kind, count), desc=f"{kind} clips", unit="clip"):
            start = corpus.window(song, seconds, seed)
            stems = np.load(song.audio(), mmap_mode="r")[:, start : start + int(seconds * SAMPLE_RATE)]
            name = f"{kind}_{sum(c['kind'] == kind for c in listed):02d}"
            soundfile.write(folder / f"{name}.flac", stems.T, SAMPLE_RATE, subtype="PCM_16")
            listed.append({"name": name, "kind": kind, "song": song.name, "source": song.source, "style": song.style,
                           "licence": song.licence, "start": round(start / SAMPLE_RATE, 3), "seconds": seconds,
                           "sha256": hashlib.sha256((folder / f"{name}.flac").read_bytes()).hexdigest()})
    path = folder / "clips.json"
    path.write_text(json.dumps({"rule": RULE, "seed": seed, "clips": listed}, indent=1) + "\n")
    return path
