"""Music by human composers, as General MIDI, from four Debian packages. It is fetched, not part of the repository.

| package           | what                             | where in it                          |
|-------------------|----------------------------------|--------------------------------------|
| `simutrans-data`  | music of a transport game        | a folder of MIDI files               |
| `openttd-openmsx` | music for another                | a folder of MIDI files               |
| `freedoom`        | music of a shooting game         | the lumps D_* of two WAD files       |
| `pianobooster`    | a course for beginners on a piano | a zip file of MIDI files             |

Genres follow a rule on the notes (`genre`). The rule is rough, but reproducible. Versions of a package can differ:
a test song with other notes than those that results were measured on is refused.
Data card: `data/README.md`.
"""

import hashlib
import json
import re
import struct
import zipfile
from functools import lru_cache
from pathlib import Path

from msdm_lite.data import debian
from msdm_lite.errors import InputError
from msdm_lite.utils.files import written_whole
from msdm_lite.utils.paths import data

LARGEST = 4 << 20  # bytes; anything larger is not taken for a MIDI file
FOLDERS = {"simutrans-data": "usr/share/games/simutrans/music",
           "openttd-openmsx": "usr/share/games/openttd/baseset/openmsx"}
WADS = "usr/share/games/doom"
BOOKS = "usr/share/games/pianobooster/music/BoosterMusicBooks.zip"
PACKAGES = (*FOLDERS, "freedoom", "pianobooster")


def lump(wad: Path, name: str) -> bytes:
    """One lump of a WAD file (id Software's container: a header, data, a directory of offset, size and name).

    Raises:
        InputError: it is no WAD file, has no such lump, or its directory points outside the file.
    """
    raw = wad.read_bytes()
    if len(raw) < 12 or raw[:4] not in (b"IWAD", b"PWAD"):
        raise InputError(f"{wad} is not a WAD file")
    count, at = struct.unpack_from("<ii", raw, 4)
    if count < 0 or at < 12 or at + 16 * count > len(raw):
        raise InputError(f"{wad}: its directory lies outside the file")
    for entry in range(count):
        start, size, title = struct.unpack_from("<ii8s", raw, at + 16 * entry)
        if title.rstrip(b"\0") != name.encode():
            continue
        if start < 0 or not 0 <= size <= LARGEST or start + size > len(raw):
            raise InputError(f"{wad}: the lump {name} lies outside the file or is too large")
        return raw[start : start + size]
    raise InputError(f"{wad} has no lump {name}")


def member(archive: Path, name: str) -> bytes:
    """The bytes of the member of a zip file whose path, without ending and with `_` for each of "/ -", is `name`.

    Raises:
        InputError: it is no zip file, has no such member, or the member is too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if re.sub("[/ -]", "_", info.filename) == f"{name}.mid":
                    if info.file_size > LARGEST:
                        raise InputError(f"{archive}: {info.filename} is too large for a MIDI file")
                    with opened.open(info) as file:
                        return file.read(LARGEST)
    except (zipfile.BadZipFile, OSError) as problem:
        raise InputError(f"{archive} cannot be read as a zip file ({problem})") from None
    raise InputError(f"{archive} has no member {name}.mid")


def path(package: str, name: str) -> Path:
    """The MIDI file of a composed song; its package is fetched on the first call.

    Raises:
        InputError: the package is unknown or lacks the song, it is a test song and its notes are others than those of
            `frozen`, or there is no `apt-get` on this machine.
    """
    if package not in PACKAGES:
        raise InputError(f"composed songs come from {', '.join(PACKAGES)}, not {package!r}")
    root = debian.fetch(package)
    target = root / FOLDERS.get(package, "midi") / f"{name}.mid"
    if not target.exists():
        if package in FOLDERS:
            raise InputError(f"{package} has no song {name}: {root} is another version of it")
        if package == "freedoom":
            wad, _, title = name.partition("_")
            content = lump(root / WADS / f"{wad}.wad", title)
        else:
            content = member(root / BOOKS, name)
        with written_whole(target) as scratch:
            scratch.write_bytes(content)
    if _hash(target) != frozen().get(name, _hash(target)):
        raise InputError(f"{target} is not the test song that results were measured on: {root} is another version")
    return target


@lru_cache(maxsize=1)
def frozen() -> dict[str, str]:
    """The SHA-256 hash of the MIDI file of every test song, by name, as listed with the shipped clips."""
    hashes: dict[str, str] = json.loads(data("clips", "clips.json").read_text(encoding="utf-8"))["test_songs"]
    return hashes


@lru_cache(maxsize=4096)
def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def genre(package: str, midi_path: Path) -> str:
    """The genre by the first of these rules that holds; shares are shares of all pitched notes.

    1. course: it comes from the piano course.
    2. rock: a tenth or more on overdriven or distorted guitar (General MIDI 29 to 31, counted from 0).
    3. electronic: a quarter or more on synthesizers (80 to 103), or synthesizer bass (38, 39).
    4. swing: more notes of drums and bass lie near two thirds of the beat than near its half (within 0.06 beats).
    5. orchestral: half or more on strings, choirs, brass, reeds and pipes (40 to 79).
    6. pop: all others.
    """
    from msdm_lite.data import midi

    if package == "pianobooster":
        return "course"
    song = midi.read(midi_path)
    programs = [0] * 16
    played: dict[int, int] = {}
    thirds = halves = 0
    for tick, message in midi.in_order(song, "program_change", "note_on"):
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.velocity:
            program = programs[message.channel]
            on_drums = message.channel == midi.DRUM_CHANNEL
            if not on_drums:
                played[program] = played.get(program, 0) + 1
            if on_drums or program in midi.FAMILIES["bass"]:
                place = tick / song.ticks_per_beat % 1
                thirds += abs(place - 2 / 3) < 0.06
                halves += abs(place - 1 / 2) < 0.06
    total = sum(played.values()) or 1

    def share(*ranges: range) -> float:
        return sum(count for program, count in played.items() if any(program in r for r in ranges)) / total

    if share(range(29, 32)) >= 0.1:
        return "rock"
    if share(range(80, 104), range(38, 40)) >= 0.25:
        return "electronic"
    if thirds > halves:
        return "swing"
    return "orchestral" if share(range(40, 80)) >= 0.5 else "pop"
