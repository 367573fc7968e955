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
import struct
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
MOST = 8 << 20  # bytes of a file that is read: as messages it takes several hundred times as much memory
FAMILIES = {"bass": range(32, 40), "guitar": range(24, 32), "piano": range(0, 8)}


def family(program: int, channel: int = 0) -> str | None:
    """The stem that a note with this program (0 to 127) on this channel (0 to 15) belongs to, or None."""
    if channel == DRUM_CHANNEL:
        return "drums"
    return next((name for name, programs in FAMILIES.items() if program in programs), None)


def read(path: str | Path) -> mido.MidiFile:
    """Read a MIDI file: of format 0 or 1, or 2 with one track; its time in ticks of a beat or of a frame (SMPTE).

    Impossible key signatures, which mido refuses, are replaced; they do not affect the sound. A last track that says
    that it is longer than the file is read to the end of the file, and chunks that are no tracks are left out. Time in
    frames is returned as beats of a second, at a fixed tempo.

    Raises:
        InputError: the file is missing, it is no MIDI file, is cut short or larger than 8 MB; it has several
            independent songs (format 2), a tempo of 0, or no ticks in a beat.
    """
    try:
        if Path(path).stat().st_size > MOST:
            raise InputError(f"{path} is larger than {MOST >> 20} MB, and no MIDI file is read that is")
        raw, frame = _repaired(Path(path).read_bytes())
        # FF 59 02 sf mi: sharps or flats must be within 7, the mode 0 or 1
        raw = re.sub(
            rb"\xff\x59\x02(..)",
            lambda m: m[0] if (m[1][0] + 7) % 256 <= 14 and m[1][1] <= 1 else b"\xff\x59\x02\x00\x00",
            raw,
            flags=re.DOTALL,
        )
        song = mido.MidiFile(file=io.BytesIO(raw))
    except InputError as problem:
        raise InputError(f"{path}: {problem}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except EOFError:
        raise InputError(f"{path} cannot be read as MIDI (it ends within a message)") from None
    except (OSError, ValueError, LookupError, TypeError, struct.error, mido.KeySignatureError) as problem:
        raise InputError(f"{path} cannot be read as MIDI ({str(problem) or type(problem).__name__})") from None
    if frame:
        for track in song.tracks:  # the tempo has no effect on time in frames
            track[:] = [mido.MetaMessage("text", time=each.time) if each.type == "set_tempo" else each
                        for each in track]
        song.tracks[:0] = [mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=frame)])]
    if any(each.type == "set_tempo" and each.tempo == 0 for track in song.tracks for each in track):
        raise InputError(f"{path} sets a tempo of 0 seconds a beat, which has no meaning")
    return song


def _repaired(raw: bytes) -> tuple[bytes, int]:
    """A file (header and tracks) in which lengths and counts fit and time is in beats, and the tempo in microseconds.

    The tempo is that of time in frames; 0 for time in beats, whose tempo the file itself says.

    Raises:
        InputError: no header or track, several songs, or no ticks.
    """
    if raw[:4] != b"MThd" or len(raw) < 14:
        raise InputError("no MIDI file: it does not begin with a header (MThd)")
    size, kind, _, division = struct.unpack(">IHHH", raw[4:14])
    tracks, place = [], 8 + max(size, 6)
    while place + 8 <= len(raw):
        name, length = raw[place : place + 4], struct.unpack(">I", raw[place + 4 : place + 8])[0]
        if place + 8 + length > len(raw) and not raw.endswith(b"\xff\x2f\x00"):  # the end of a track
            raise InputError("a MIDI file that is cut short")
        if name == b"MTrk":
            tracks.append(raw[place + 8 : place + 8 + length])
        place += 8 + length
    if not tracks:
        raise InputError("a MIDI file without a track")
    if kind == 2 and len(tracks) > 1:
        raise InputError(f"{len(tracks)} independent songs in one MIDI file (format 2): save the one that is meant")
    frame = 0
    if division & 0x8000:  # frames in a second, negative, and ticks in a frame
        frames, ticks = 256 - (division >> 8), division & 0xFF
        frame = 1001000 if frames == 29 else 1000000  # 29 stands for 30 frames in 1.001 s
        division = (30 if frames == 29 else frames) * ticks
    if not 0 < division < 0x8000:
        raise InputError("a MIDI file without ticks in a beat or a frame, so that its times have no meaning")
    head = struct.pack(">4sIHHH", b"MThd", 6, min(kind, 1), len(tracks), division)
    return head + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks), frame


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
