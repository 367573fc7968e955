"""MIDI to stems: one FluidSynth, dry and mono, for each of bass, drums, guitar and piano."""

from functools import cache as once
from pathlib import Path

import numpy as np
import soxr

from msdm_lite import debian, midi
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError

STEM_RMS = 0.06  # every stem plays at this level, so that none hides behind another
RENDER_RATE = 44100  # FluidSynth would alias if it played 44.1 kHz samples at 22.05 kHz
IGNORED = (0, 10, 32, 91, 93)  # control changes: bank, pan, bank, reverb, chorus


@once
def soundfont() -> Path:
    """FluidR3_GM (MIT licence), installed or fetched from Debian; failing that, the small TimGM6mb of `pretty_midi`."""
    installed = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
    if installed.exists():
        return installed
    try:
        return debian.fetch("fluid-soundfont-gm") / "usr" / "share" / "sounds" / "sf2" / "FluidR3_GM.sf2"
    except InputError:
        import pretty_midi

        return Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"


@once
def _synth():
    """One synthesizer a process: loading a soundfont takes longer than playing a song."""
    try:
        import fluidsynth
    except ImportError as problem:
        raise InputError(f"rendering needs FluidSynth: `apt-get install libfluidsynth3` or your system's package "
                         f"and `pip install pyfluidsynth` ({problem})") from None
    synth = fluidsynth.Synth(gain=0.3, samplerate=float(RENDER_RATE))
    synth.setting("synth.reverb.active", 0)
    synth.setting("synth.chorus.active", 0)
    return synth, synth.sfload(str(soundfont()))


def render_stem(events: list, stem: str, seconds: float) -> np.ndarray:
    """One stem of a song as the soundfont plays it: (T,) float32 at 22 050 Hz, not yet levelled.

    Args:
        events: what `midi.events` returns.
        stem: which of the four families sounds.
        seconds: length; notes that ring on are cut there.
    """
    synth, font = _synth()
    synth.system_reset()
    for channel in range(16):
        synth.program_select(channel, font, 128 if channel == midi.DRUM_CHANNEL else 0, 0)
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
        if kind == "note_on" and message.velocity:
            if belongs == stem:
                advance(now)
                synth.noteon(channel, message.note, message.velocity)
        elif kind in ("note_on", "note_off"):
            advance(now)
            synth.noteoff(channel, message.note)
        elif kind == "program_change":
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


def active_rms(wave: np.ndarray, window: int = SAMPLE_RATE // 4) -> float:
    """Root mean square over the quarter-seconds in which a stem sounds: those within 40 dB of its loudest one.

    A stem that rests for half the song is not louder for it. Zero for a silent stem.
    """
    frames = wave[: len(wave) // window * window].reshape(-1, window)
    power = np.square(frames, dtype=np.float64).mean(1) if len(frames) else np.zeros(1)
    loud = power > 1e-4 * power.max()
    return float(np.sqrt(power[loud].mean())) if loud.any() else 0.0


def level(stems: np.ndarray, rms: float = STEM_RMS, peak: float = 0.99) -> np.ndarray:
    """Every sounding stem at the same active RMS; the song is turned down if the mix or a stem would clip. (S, T)."""
    gains = [rms / r if (r := active_rms(stem)) > 1e-6 else 0.0 for stem in stems]
    stems = stems * np.array(gains, np.float32)[:, None]
    highest = max(np.abs(stems).max(), np.abs(stems.sum(0)).max())
    return stems * min(1.0, peak / highest) if highest > 0 else stems


def render(path: str | Path, longest: float = 300.0) -> np.ndarray:
    """A MIDI file as levelled stems: (4, T) float32 at 22 050 Hz; a family that does not play is silence.

    Raises:
        InputError: no MIDI file, or no FluidSynth on this machine.
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
            wave = render_stem(events, stem, seconds)[:size]
            row[: len(wave)] = wave
    return level(stems)
