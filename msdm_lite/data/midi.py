"""MIDI files and the four families of instruments.

All code uses this map from General MIDI programs to stems:

| stem   | what                                  |
|--------|---------------------------------------|
| bass   | programs 32 to 39 (the bass family)   |
| drums  | channel 10 (9 when counted from zero) |
| guitar | programs 24 to 31 (the guitar family) |
| piano  | programs 0 to 7 (the piano family)    |

It is Slakh2100's grouping by `inst_class`. All other instruments (strings, winds, organs, voices, synthesizers) belong
to no stem and are left out of the mixture. Data card: `data/README.md`.
"""

import io
import re
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from msdm_lite.errors import InputError
from msdm_lite.utils.imports import library

if TYPE_CHECKING:
    import mido
else:
    mido = library("mido")  # or an error that says what to install

DRUM_CHANNEL = 9
FAMILIES = {"bass": range(32, 40), "guitar": range(24, 32), "piano": range(0, 8)}


def family(program: int, channel: int = 0) -> str | None:
    """The stem that a note with this program (0 to 127) on this channel (0 to 15) belongs to, or None."""
    if channel == DRUM_CHANNEL:
        return "drums"
    return next((name for name, programs in FAMILIES.items() if program in programs), None)


def read(path: str | Path) -> mido.MidiFile:
    """Read a MIDI file. Impossible key signatures, which mido refuses, are replaced; they do not affect the sound.

    Raises:
        InputError: the file is missing, or it is no MIDI file.
    """
    try:
        raw = Path(path).read_bytes()
        # FF 59 02 sf mi: sharps or flats must be within 7, the mode 0 or 1
        raw = re.sub(
            rb"\xff\x59\x02(..)",
            lambda m: m[0] if (m[1][0] + 7) % 256 <= 14 and m[1][1] <= 1 else b"\xff\x59\x02\x00\x00",
            raw,
            flags=re.DOTALL,
        )
        return mido.MidiFile(file=io.BytesIO(raw))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, KeyError, IndexError) as problem:
        raise InputError(f"{path} cannot be read as MIDI ({problem})") from None


def in_order(song: mido.MidiFile, *kinds: str) -> list[tuple[int, mido.Message]]:
    """The messages of these types of all tracks, as (tick, message), in the order in which they sound.

    The order is that of `mido.merge_tracks`, which copies every message and takes several times as long.
    """
    found = []
    for track in song.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type in kinds:
                found.append((tick, message))
    return sorted(found, key=itemgetter(0))


def events(song: mido.MidiFile) -> list[tuple[float, mido.Message, str | None]]:
    """All channel messages as (time in seconds, message, stem); the stem is that of the channel's current program."""
    programs = [0] * 16
    out, now = [], 0.0
    for message in song:  # iterating merges the tracks and turns ticks into seconds
        now += message.time
        if message.is_meta or not hasattr(message, "channel"):
            continue
        if message.type == "program_change":
            programs[message.channel] = message.program
        out.append((now, message, family(programs[message.channel], message.channel)))
    return out


def activity(song: mido.MidiFile, window: float = 2.0) -> dict[str, float]:
    """For each stem with notes, the share of windows of `window` seconds in which a note of it starts."""
    starts: dict[str, set[int]] = {}
    last = 0
    for now, message, stem in events(song):
        if message.type == "note_on" and message.velocity:
            last = max(last, int(now / window))
            if stem:
                starts.setdefault(stem, set()).add(int(now / window))
    return {stem: len(found) / (last + 1) for stem, found in starts.items()}
