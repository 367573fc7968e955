"""Outputs of the command line: sound files and their manifest, all or none, of the format that was asked for.

Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from msdm_lite.audio import encode
from msdm_lite.utils import files, manifest

LOG = logging.getLogger("msdm_lite")


@dataclass(frozen=True)
class Format:
    """How sound is kept: wav, flac, ogg or mp3, and "16", "24" or "float" bits (None: the format's own).

    Raises:
        InputError: there is no such format, or it does not have these bits.
    """

    name: str = "wav"
    bits: str | None = None

    def __post_init__(self) -> None:
        encode.encoding(self.ending, self.bits)

    @property
    def ending(self) -> str:
        return f".{self.name}"

    def check(self, sample_rate: int) -> None:
        """Raises InputError for a sample rate that the format does not have."""
        encode.encoding(self.ending, self.bits, sample_rate)


def turned_down(waves: Mapping[str, Tensor], form: Format) -> dict[str, Tensor]:
    """Waves (C, T) or (T,) by name, by one gain below 1 where one of them would clip in that format, with a warning."""
    if not encode.clips(form.ending, form.bits) or not waves:
        return dict(waves)
    peak = max(float(wave.abs().max()) if wave.numel() else 0.0 for wave in waves.values())
    if not 1 < peak < float("inf"):
        return dict(waves)
    gain = (1 - 2**-20) / peak  # rounding must not lead above 1
    LOG.warning("the files are %.1f dB softer than the input, so that none of them clips: the peak was %.2f; a wav of "
                "floats (--bits float) needs no such gain", -20 * math.log10(gain), peak)
    return {name: wave * gain for name, wave in waves.items()}


def write(folder: str | Path, waves: Mapping[str, Tensor], sample_rate: int, facts: Mapping[str, Any],
          form: Format | None = None, tags: Mapping[str, str] | None = None) -> list[Path]:
    """Write waves (C, T) or (T,) by name, and note them in the folder's manifest. Returns the paths of the files.

    Either all files are there at the end, and in the manifest, or what was there before. The caller has locked the
    folder, and has asked `manifest.require_own` whether the files may be written.

    Args:
        facts: what the manifest says of the run: command, inputs, seed, model, version.
        tags: title, artist, ... of the files.

    Raises:
        InputError: they cannot be written.
    """
    form = form or Format()
    folder = files.writable_folder(folder)
    encode.remove_scraps(folder)
    for scrap in files.scratch_files(folder / manifest.NAME):
        scrap.unlink(missing_ok=True)
    entry = manifest.Entry(folder, facts)
    named = {folder / f"{name}{form.ending}": wave for name, wave in turned_down(waves, form).items()}
    try:
        paths = encode.save_all(named, sample_rate, form.bits, tags, ready=entry.begin)
    except BaseException:
        entry.undo()
        raise
    entry.finish()
    return paths
