"""Rendering of MIDI to stems: FluidSynth, dry and mono, once for each of bass, drums, guitar and piano.

Data card: `data/README.md`.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path

import numpy as np
import soxr

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.audio.levels import equal_rms
from msdm_lite.data import debian, midi
from msdm_lite.data.variation import Variation
from msdm_lite.errors import InputError, MachineError

LOG = logging.getLogger("msdm_lite")

RENDER_RATE = 44100  # the rate of the soundfonts; at 22.05 kHz FluidSynth would alias
IGNORED = (0, 10, 32, 91, 93)  # control changes: bank, pan, bank, reverb, chorus


FONTS = {  # name -> Debian package and the file in it
    "FluidR3_GM": ("fluid-soundfont-gm", "usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "MuseScore_General": ("musescore-general-soundfont-small", "usr/share/sounds/sf3/MuseScore_General_Lite.sf3"),
    "TimGM6mb": ("timgm6mb-soundfont", "usr/share/sounds/sf2/TimGM6mb.sf2"),
}


# SHA-256 of the files that the corpus was rendered with. Versions under the same name can sound otherwise
HASHES = {
    "FluidR3_GM": ("74594e8f4250680adf590507a306655a299935343583256f3b722c48a1bc1cb0",),
    "MuseScore_General": ("916aaca6b0eb9f9083eb42399614acb2ff4ec72ce28dffff1814592a9696b479",),
    "TimGM6mb": ("c5378b62028c920cb11e4803327983fee2f2cdff5dc89c708e39da417e51c854",  # of Debian
                 "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"),  # of pretty_midi
}

# Folders of soundfonts on systems without Debian's packages
PLACES = ("/usr/share/soundfonts", "/usr/local/share/soundfonts", "/opt/homebrew/share/soundfonts")


@once
def soundfont(name: str = "FluidR3_GM") -> Path:
    """The path of a soundfont: in `$MSDM_LITE_SOUNDFONTS`, installed, inside `pretty_midi`, or fetched from Debian.

    The logger "msdm_lite" warns of a file that is not the one of `HASHES`.

    Raises:
        InputError: the name is unknown, or the soundfont is not on this machine and cannot be fetched.
    """
    if name not in FONTS:
        raise InputError(f"there is no soundfont {name!r}: {', '.join(FONTS)}")
    found = _find(name)
    with contextlib.suppress(OSError), open(found, "rb") as file:  # one that cannot be read is FluidSynth's to name
        if (digest := hashlib.file_digest(file, "sha256").hexdigest()) not in HASHES.get(name, ()):
            LOG.warning("%s is another version of %s than the corpus was rendered with (SHA-256 %s): songs that it "
                        "renders sound otherwise", found, name, digest[:12])
    return found


def _find(name: str) -> Path:
    package, inside = FONTS[name]
    own = os.environ.get("MSDM_LITE_SOUNDFONTS")
    folders: list[str | Path] = [*([own] if own else []), Path("/", inside).parent, *PLACES]
    for folder in folders:
        if (found := Path(folder, Path(inside).name)).exists():
            return found
    if name == "TimGM6mb":
        with contextlib.suppress(ImportError):
            import pretty_midi

            if (carried := Path(pretty_midi.__file__).parent / "TimGM6mb.sf2").exists():
                return carried
    try:
        return debian.fetch(package) / inside
    except MachineError as problem:
        raise MachineError(f"{problem}; or put {Path(inside).name} into a folder and name it in "
                           "$MSDM_LITE_SOUNDFONTS") from None


@once
def default_soundfont() -> str:
    """FluidR3_GM (MIT licence); if it cannot be fetched, the small TimGM6mb (GPL) that comes with `pretty_midi`."""
    try:
        soundfont("FluidR3_GM")
        return "FluidR3_GM"
    except InputError as problem:
        LOG.warning("%s; rendering with the small soundfont TimGM6mb instead", problem)
        return "TimGM6mb"


@contextmanager
def _synth(name: str) -> Iterator[tuple]:
    """A new synthesizer and its soundfont's number; a used synthesizer may start notes up to 64 samples off."""
    try:
        import fluidsynth
    except ImportError as problem:
        raise MachineError("rendering needs FluidSynth: `apt-get install libfluidsynth3` or your system's package "
                           f"and `pip install pyfluidsynth` ({problem})") from None
    synth = fluidsynth.Synth(gain=0.3, samplerate=float(RENDER_RATE))
    try:
        synth.setting("synth.reverb.active", 0)
        synth.setting("synth.chorus.active", 0)
        synth.setting("synth.dynamic-sample-loading", 1)  # loads only the programs in use, within milliseconds
        font = synth.sfload(str(soundfont(name)))
        if font < 0:
            raise MachineError(f"FluidSynth cannot read the soundfont {soundfont(name)}")
        yield synth, font
    finally:
        synth.delete()


def render_stem(events: list, stem: str, seconds: float, variation: Variation | None = None) -> np.ndarray:
    """Render one stem of a song with the soundfont: (T,) float32 at 22 050 Hz, before `equal_rms`.

    Args:
        events: from `midi.events`.
        stem: one of the four families.
        seconds: length; notes that still sound are cut there.
        variation: changes of program, key and soundfont; as written if not given.
    """
    variation = variation or Variation(soundfont=default_soundfont())
    with _synth(variation.soundfont) as (synth, font):
        program = variation.programs.get(stem)
        for channel in range(16):
            bank = 128 if channel == midi.DRUM_CHANNEL else 0
            ours = (bank == 128) == (stem == "drums")
            synth.program_select(channel, font, bank, program if ours and program is not None else 0)
        blocks, done = [], 0

        def advance(until: float) -> None:
            nonlocal done
            count = int(until * RENDER_RATE) - done
            if count > 0:
                blocks.append(synth.get_samples(count).reshape(-1, 2).mean(1, dtype=np.float32))
                done += count

        for now, message, belongs in events:
            if now >= seconds:
                break
            kind, channel = message.type, message.channel
            shift = 0 if channel == midi.DRUM_CHANNEL else variation.transpose
            if kind == "note_on" and message.velocity:
                if belongs == stem:
                    advance(now)
                    synth.noteon(channel, min(max(message.note + shift, 0), 127), message.velocity)
            elif kind in ("note_on", "note_off"):
                advance(now)
                synth.noteoff(channel, min(max(message.note + shift, 0), 127))
            elif kind == "program_change" and program is None:
                advance(now)
                synth.program_change(channel, message.program)
            elif kind == "control_change" and message.control not in IGNORED:
                advance(now)
                synth.cc(channel, message.control, message.value)
            elif kind == "pitchwheel":
                advance(now)
                synth.pitch_bend(channel, message.pitch)
        advance(seconds)
    played = np.concatenate(blocks) / 32768.0
    return soxr.resample(played, RENDER_RATE, SAMPLE_RATE).astype(np.float32)


def render(path: str | Path, longest: float = 300.0, variation: Variation | None = None) -> np.ndarray:
    """Render a MIDI file to stems of equal active RMS: (4, T) float32 at 22 050 Hz; absent stems are silent.

    Args:
        longest: maximal length in seconds; the rest is left out.
        variation: changes of program, key and soundfont; as written if not given.

    Raises:
        InputError: it is no MIDI file, or there is no FluidSynth on this machine.
    """
    song = midi.read(path)
    events = midi.events(song)
    ends = [now for now, message, stem in events if stem and message.type in ("note_on", "note_off")]
    seconds = min(max(ends, default=0.0) + 1.5, longest)  # the last notes ring out
    present = {stem for _, message, stem in events if message.type == "note_on" and message.velocity}
    size = int(seconds * RENDER_RATE) // 2
    stems = np.zeros((len(STEMS), size), np.float32)
    for row, stem in zip(stems, STEMS, strict=True):
        if stem in present:
            wave = render_stem(events, stem, seconds, variation)[:size]
            row[: len(wave)] = wave
    return equal_rms(stems)
