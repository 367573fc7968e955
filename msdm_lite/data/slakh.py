"""Slakh2100's list of stems: the `metadata.yaml` of a song, and what lies beside it.

What lies on the disk counts: BabySlakh says of every stem that it was not rendered, and has it. Source: Manilow et al.,
WASPAA 2019. Chapter: `book/13-scaling-up.ipynb`.
"""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msdm_lite.errors import InputError

LOG = logging.getLogger("msdm_lite")

LONGEST = 64 << 10  # bytes of a metadata.yaml; the published ones have a few thousand
DEEPEST = 32  # levels in levels; the published ones have 3
ENDINGS = (".flac", ".wav", ".aiff", ".aif", ".ogg", ".mp3")  # if a stem has several files, the first of these is taken
# The classes of instruments in Slakh2100
CLASSES = ("bass", "brass", "chromatic percussion", "drums", "ethnic", "guitar", "organ", "percussive", "piano", "pipe",
           "reed", "sound effects", "strings", "strings (continued)", "synth lead", "synth pad")
NO = ("false", "no", "off", "n")


def is_track(place: Path) -> bool:
    """Whether a folder is a song as published: `metadata.yaml` and `stems/`."""
    return os.path.isfile(place / "metadata.yaml") and os.path.isdir(place / "stems")


def stem_files(place: Path, stems: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each of the stems in a song's folder, by `inst_class`.

    Stems of Slakh2100's other classes are left out, as in the paper; those of an unknown class with one warning.

    Raises:
        InputError: the metadata cannot be understood, or none of its stems is of a class that is known.
    """
    listed = _listed(place / "metadata.yaml")
    wanted = {stem.lower(): stem for stem in stems}
    files: dict[str, list[Path]] = {}
    unknown: dict[str, str] = {}
    known = 0
    for number, about in listed.items():
        kind = about.get("inst_class") if isinstance(about, dict) else None
        kind = kind.strip().lower() if isinstance(kind, str) else ""
        if not re.fullmatch(r"[\w-]{1,40}", number) or kind not in (*CLASSES, *wanted):
            unknown[number[:40]] = kind[:40] or "none"
            continue
        known += 1
        if kind not in wanted:
            continue
        there = [path for ending in ENDINGS if os.path.lexists(path := place / "stems" / f"{number}{ending}")]
        if there:
            files.setdefault(wanted[kind], []).append(there[0])
        elif str(about.get("audio_rendered", True)).lower() not in NO:
            LOG.warning("%s: its metadata names the stem %s, and there is no such file", place.name, number)
    if not known:
        raise InputError(f"{place / 'metadata.yaml'} cannot be understood (no stem of a known class)")
    if unknown:
        LOG.warning("%s: of unknown class, and left out: %s", place.name,
                    ", ".join(f"{number} ({kind})" for number, kind in list(unknown.items())[:5])
                    + ", ..." * (len(unknown) > 5))
    return files


def _listed(path: Path) -> dict[str, Any]:
    """The stems in a metadata.yaml; all values are texts, lists and dictionaries.

    The loader knows no merge keys and no numbers, and no depth: a few bytes of each can ask for gigabytes or hours.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        def fetch_more_tokens(self) -> None:
            if self.flow_level + len(self.indents) > DEEPEST:
                raise ValueError("it is nested too deep")
            super().fetch_more_tokens()

    try:
        with open(path, "rb") as file:
            raw = file.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST >> 10} KB")
        found = yaml.load(raw, Loader=Loader)["stems"]
        return {str(number): about for number, about in found.items()}
    except (yaml.YAMLError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as problem:
        reason = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(problem).split()))[:100]
        raise InputError(f"{path} cannot be understood ({reason})") from None
