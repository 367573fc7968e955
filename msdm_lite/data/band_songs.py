"""Band songs: random chord charts, turned into MIDI by MMA (Musical MIDI Accompaniment).

A song is a form (verse, chorus, bridge) of chord progressions in a random key and tempo. MMA, the accompaniment
generator of Bob van der Poel (Debian package `mma`), turns the chart into bass, drums, guitar and piano in one of its
styles ("grooves"). The songs are auto-accompaniment: no person composed or plays them, and the data card says so. The
same seed gives the same songs. Data card: `data/README.md`.
"""

import csv
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from msdm_lite.audio.io import STEMS
from msdm_lite.data import debian, midi
from msdm_lite.data.midi import mido
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import files

# Degrees of the scale and chord types. Common progressions of pop, rock, blues and jazz; eight bars each.
MAJOR = {"I": (0, ""), "ii": (2, "m"), "iii": (4, "m"), "IV": (5, ""), "V": (7, ""), "V7": (7, "7"), "vi": (9, "m"),
         "bVII": (10, ""), "ii7": (2, "m7"), "IM7": (0, "M7"), "vi7": (9, "m7"), "I7": (0, "7"), "IV7": (5, "7")}
MINOR = {"i": (0, "m"), "ii0": (2, "m7b5"), "III": (3, ""), "iv": (5, "m"), "v": (7, "m"), "V7": (7, "7"),
         "VI": (8, ""), "VII": (10, ""), "i7": (0, "m7"), "iv7": (5, "m7")}
PROGRESSIONS = {
    "major": ["I V vi IV I V IV IV", "I vi IV V7 I vi ii V7", "vi IV I V vi IV V V", "I IV I V I IV V7 I",
              "IM7 vi7 ii7 V7 IM7 vi7 ii7 V7", "I I IV IV I V IV V7", "I iii IV V I iii ii V7",
              "I bVII IV I I bVII IV V", "I7 I7 IV7 I7 V7 IV7 I7 V7", "ii7 V7 IM7 vi7 ii7 V7 IM7 IM7",
              "IV V iii vi ii V7 I I", "I I V V vi vi IV V7"],
    "minor": ["i VI III VII i VI III VII", "i iv VII III VI ii0 V7 i", "i VII VI V7 i VII VI V7",
              "i i iv iv i V7 i i", "i7 iv7 i7 iv7 VI VII i7 V7", "VI VII i i VI VII III V7", "i v VI iv i v VI V7"],
}
NOTES = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
FORMS = ["ABAB", "AABA", "ABAC", "AABB", "ABCB"]

# Few programs per stem, so that a small model suffices. One is drawn for each song and stem.
PROGRAMS = {"bass": (33, 32), "drums": (0,), "guitar": (25, 27), "piano": (0, 1)}
NO_STYLE = {"metronome", "none"}  # MMA library files without music

# Styles that are too similar to be in different splits: by name, or by `msdm_lite.data.leakage` (some pair of songs has
# more than a fifth of its four-bar windows in common, of all stems, or of the drums and of another stem).
ALIKE = {"8beatpop": "8beat", "poprock": "8beat", "rb": "r+b", "shuffleboggie": "shuffleboogie", "twi": "twist",
         "dsoul": "discosoul"}
# Drawn once and never changed, so that scores stay comparable. A family that is not named here is for training.
HELD_OUT = {
    "test": ("8beatballad", "hip-hop", "jazzbasie", "k50s_rock", "mellowjazz", "modernjazz", "pop", "popshuffle",
             "rb-ballad", "shufflerock"),
    "val": ("60spop", "68swing", "dance", "shuffleboogie", "softrock"),
}


@dataclass(frozen=True)
class Song:
    """A chord chart, and the settings with which MMA plays it."""

    name: str
    style: str  # the name of MMA's library file without its number; `family(style)` decides the split
    groove: str
    key: str
    tempo: int
    seed: int
    bars: tuple[str, ...]  # one chord a bar
    programs: dict[str, int]

    def chart(self) -> str:
        """The chart as text in MMA's format."""
        bars = "\n".join(f"{number} {chord}" for number, chord in enumerate(self.bars, 1))
        return f"RndSeed {self.seed}\nTempo {self.tempo}\nGroove {self.groove}\n{bars}\n"


def library() -> Path:
    """MMA's folder with its index of grooves, fetched from Debian and built on the first call.

    Raises:
        MachineError: the package cannot be fetched, or its program does not run.
    """
    folder = debian.fetch("mma") / "usr" / "share" / "mma"
    program = folder / "mma.py"  # MMA looks for its modules in the folder of its script
    if not program.exists():
        shutil.copy(folder.parents[1] / "bin" / "mma", program)
        (folder / "plugins").mkdir(exist_ok=True)
        try:
            subprocess.run([sys.executable, "mma.py", "-G"], cwd=folder, check=True, capture_output=True)
        except BaseException as problem:  # the next call builds the index if the program is not there
            program.unlink()
            if isinstance(problem, subprocess.CalledProcessError):
                said = (problem.stderr or problem.stdout).decode(errors="replace").strip().splitlines() or ["nothing"]
                raise MachineError(f"MMA cannot build its index of grooves; it said: {said[-1]}") from None
            raise
    return folder


def grooves() -> dict[str, list[str]]:
    """Grooves for whole songs, by style. Files whose names differ by a number only (8beat1, 8beat2) are one style."""
    styles: dict[str, list[str]] = {}
    for file in sorted((library() / "lib").glob("*/*.mma")):
        style = file.stem.lower().rstrip("0123456789")
        found = re.findall(r"^\s*DefGroove\s+(\S+)", file.read_text(errors="replace"), re.MULTILINE | re.IGNORECASE)
        whole = [name for name in found if not re.search(r"(intro|end|fill|break)\d*", name, re.IGNORECASE)]
        if whole and style not in NO_STYLE:
            styles.setdefault(style, []).extend(whole)
    return styles


def draw(rng: random.Random, name: str, style: str, groove: str) -> Song:
    """A random chart: a mode, a key, a tempo, a form of eight-bar parts, a program for each stem."""
    mode = rng.choice(["major", "major", "minor"])
    degrees = MAJOR if mode == "major" else MINOR
    tonic = rng.randrange(12)
    parts = dict(zip("ABC", rng.sample(PROGRESSIONS[mode], 3), strict=True))
    bars = []
    for part in rng.choice(FORMS):
        for degree in parts[part].split():
            step, kind = degrees[degree]
            bars.append(NOTES[(tonic + step) % 12] + kind)
    bars.append(NOTES[tonic] + ("m" if mode == "minor" else ""))
    return Song(name, style, groove, f"{NOTES[tonic]} {mode}", rng.randrange(84, 145, 2), rng.randrange(10**6),
                tuple(bars), {stem: rng.choice(PROGRAMS[stem]) for stem in STEMS})


def play(song: Song) -> mido.MidiFile | None:
    """The song as MMA plays it, its four stems with the song's programs; None if MMA cannot play the chart."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "song.mma").write_text(song.chart())
        done = subprocess.run([sys.executable, "mma.py", f"{scratch}/song.mma", "-f", f"{scratch}/song.mid"],
                              cwd=library(), capture_output=True)
        if done.returncode or not Path(scratch, "song.mid").exists():
            return None
        played = midi.read(Path(scratch, "song.mid"))
    out = mido.MidiFile(ticks_per_beat=played.ticks_per_beat)
    for track in played.tracks:
        kept, waited, program = mido.MidiTrack(), 0, 0
        for message in track:
            waited += message.time
            if message.is_meta:
                if message.type not in ("set_tempo", "time_signature"):
                    continue
            else:
                if message.type == "program_change":
                    program = message.program
                stem = midi.family(program, message.channel)
                if stem is None or (message.type == "control_change" and message.control in (0, 10, 32, 91, 93)):
                    continue  # without bank, pan, reverb and chorus
                if message.type == "program_change":
                    message = message.copy(program=song.programs[stem])
            kept.append(message.copy(time=waited))
            waited = 0
        if kept:
            out.tracks.append(kept)
    return out


def songs(count: int, seed: int = 0, least: float = 0.6) -> Iterator[tuple[Song, mido.MidiFile]]:
    """Draw `count` songs in each of which every stem has notes in at least a share `least` of the two-second windows.

    A style is drawn first and then a groove of it, so that a style with many grooves is not drawn more often.

    Raises:
        MachineError: no groove gives such songs.
    """
    rng = random.Random(seed)
    choice = grooves()
    hopeless: set[str] = set()
    made = 0
    order: list[str] = []
    while made < count:
        if not order:  # every style is used once before any is used again
            order = sorted(choice)
            rng.shuffle(order)
        style = order.pop()
        groove = rng.choice(choice[style])
        song = draw(rng, f"band_{made:04d}", style, groove)
        if groove in hopeless:
            continue
        played = play(song)
        active = midi.activity(played) if played else {}
        if min(active.get(stem, 0.0) for stem in STEMS) < least:
            hopeless.add(groove)
            if len(hopeless) == sum(len(set(some)) for some in choice.values()):
                raise MachineError("MMA plays none of its grooves with all four stems: is its package whole?")
            continue
        made += 1
        yield song, played


def family(style: str) -> str:
    """The groove family of a style: the style itself, or the one in `ALIKE` that it is too similar to."""
    return ALIKE.get(style, style)


def split(style: str) -> str:
    """The split of a style: "train", "val" or "test". All styles of a family are in the same split."""
    return next((side for side, families in HELD_OUT.items() if family(style) in families), "train")


def write(folder: str | Path, count: int = 500, seed: int = 0) -> Path:
    """Write the MIDI of `count` songs to `folder/band/*.mid`, and the list with their splits to `folder/band.tsv`.

    Earlier files are replaced at the end, so that an interrupted call changes nothing.

    Raises:
        InputError: `count` is below one.
    """
    if count < 1:
        raise InputError(f"at least one song can be composed, not {count}")
    folder = files.writable_folder(folder)
    columns = ["name", "split", "family", "style", "groove", "key", "tempo", "seconds", *STEMS]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with open(Path(scratch, "band.tsv"), "w", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerow(columns)
            for song, played in tqdm(songs(count, seed), total=count, desc="composing", unit="song"):
                played.save(Path(scratch, f"{song.name}.mid"))
                table.writerow([song.name, split(song.style), family(song.style), song.style, song.groove, song.key,
                                song.tempo, f"{played.length:.1f}", *(song.programs[stem] for stem in STEMS)])
        (folder / "band").mkdir(exist_ok=True)
        for path in sorted(Path(scratch).glob("*.mid")):
            path.replace(folder / "band" / path.name)
        return Path(scratch, "band.tsv").replace(folder / "band.tsv")
