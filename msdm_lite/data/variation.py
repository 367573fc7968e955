"""Variations of a song: other programs, another key, another soundfont.

A variation is drawn from the name of a training song and a number. It changes the rendering, not the MIDI file.
Variation 0 is the song as written; validation and test songs have no other. Each kind of change can be switched off.
Data card: `data/README.md`.
"""

import hashlib
import random
from dataclasses import dataclass, field

# Programs of each family that sound well in General MIDI. Slap basses and harmonics are left out.
PROGRAMS = {"bass": (32, 33, 34, 35), "drums": (0, 8, 16, 25, 32, 40), "guitar": (24, 25, 26, 27, 28, 29, 30),
            "piano": (0, 1, 2, 3, 4, 5)}
SOUNDFONTS = ("FluidR3_GM", "MuseScore_General")
HIGHEST_STEP = 4  # semitones up or down, so that the bass stays in its range


@dataclass(frozen=True)
class Variation:
    """Changes in the rendering: a program for each stem (as written if absent), semitones, and the soundfont's name."""

    programs: dict[str, int] = field(default_factory=dict)
    transpose: int = 0
    soundfont: str = SOUNDFONTS[0]


def draw(song: str, number: int, programs: bool = True, transpose: bool = True, soundfonts: bool = True) -> Variation:
    """Variation `number` of a song; number 0 is the song as written. The same arguments give the same variation.

    Args:
        song: the song's name.
        programs: vary the instruments within their families.
        transpose: vary the key.
        soundfonts: vary the soundfont.
    """
    if number == 0:
        return Variation()
    rng = random.Random(int(hashlib.sha256(f"{song} {number}".encode()).hexdigest()[:15], 16))
    # All three are always drawn, so that switching one off does not change the others
    drawn = {stem: rng.choice(choice) for stem, choice in PROGRAMS.items()}
    steps, font = rng.randint(-HIGHEST_STEP, HIGHEST_STEP), rng.choice(SOUNDFONTS)
    return Variation(drawn if programs else {}, steps if transpose else 0, font if soundfonts else SOUNDFONTS[0])
