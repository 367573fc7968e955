"""Decoding of sound files, with their tags. Chapter: `book/12-longer-and-stranger.ipynb`."""

from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from torch import Tensor

from msdm_lite.audio import io


@dataclass
class Sound:
    """Samples (C, T) in float32, their rate in Hz, and the tags that the file has."""

    samples: Tensor
    sample_rate: int
    tags: dict[str, str] = field(default_factory=dict)


def decode(path: str | Path) -> Sound:
    """The sound of a file, at its own rate. Errors are those of `audio.io.load`."""
    path = Path(path)
    io.require_readable(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate, tags = file.samplerate, file.copy_metadata()
    except (soundfile.LibsndfileError, TypeError):
        rate, tags = io.SAMPLE_RATE, {}
    samples = io.load(path, rate, mono=False)
    return Sound(samples, rate, tags)
