"""Separation under domain shift: the same notes with other sounds.

`python -m msdm_lite.studies domain-shift --out FILE` renders the test songs that were written by a program: as they
are; with other soundfonts; with other instruments of the same families; a quarter-tone sharp; and with two stems alone.
Every result is compared with that of the same song as it is. Stems are balanced over the excerpt, not over the song.
The study needs FluidSynth, but no rendered corpus. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import corpus
from msdm_lite.data.corpus import Song
from msdm_lite.data.variation import PROGRAMS, Variation
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
from msdm_lite.inference.separation import separate
from msdm_lite.studies.runner import Run, study

AS_IT_IS = "as it is"
QUARTER_TONE = 50  # cents


def other_instruments(song: str) -> dict[str, int]:
    """For each stem a General MIDI program of its family that no band song has; the song's name seeds the draw."""
    from msdm_lite.data import band_songs  # here, so that a missing mido is reported with what to install

    rng = random.Random(song)
    return {stem: rng.choice([p for p in PROGRAMS[stem] if p not in band_songs.PROGRAMS[stem]]) for stem in STEMS}


def domain_shifts(song: Song, seconds: float) -> Iterator[tuple[str, Tensor]]:
    """Yield each domain's name and the stems (4, T) of the first `seconds` of a song in it."""
    from msdm_lite.data import render

    def played(variation: Variation, longest: float = seconds) -> Tensor:
        return torch.from_numpy(render.render(song.midi(), longest, variation))

    known = played(Variation())
    yield AS_IT_IS, known
    yield "soundfont TimGM6mb", played(Variation(soundfont="TimGM6mb"))
    yield "soundfont MuseScore General", played(Variation(soundfont="MuseScore_General"))
    yield "other instruments", played(Variation(programs=other_instruments(song.name)))
    speed = 2 ** (QUARTER_TONE / 1200)
    faster = audio_io.resample(played(Variation(), seconds * speed), round(speed * SAMPLE_RATE), SAMPLE_RATE)
    yield "a quarter-tone sharp", faster[:, : known.shape[1]]
    for two in combinations(STEMS, 2):
        alone = known.clone()
        alone[[n for n, stem in enumerate(STEMS) if stem not in two]] = 0
        yield " and ".join(two), alone


def measure(model, songs: Sequence[Song], seconds: float = 12.0, progress: bool = True) -> dict[str, dict]:
    """SI-SDR improvement in dB in each domain: mean, interval over songs, and difference to songs as they are."""
    found: dict[str, list[float]] = {}
    for song in tqdm(songs, unit="song", disable=not progress):
        for name, stems in domain_shifts(song, seconds):
            gain = metrics.si_sdr_improvement(separate(stems.sum(0), model), stems)
            found.setdefault(name, []).append(gain.nanmean().item())
    known = torch.tensor(found[AS_IT_IS])
    return {name: metrics.interval(values) | {"difference": metrics.interval(torch.tensor(values) - known)}
            for name, values in found.items()}


@study("domain-shift", records=("domain-lite", "domain-lite-supervised"),
       measures="other soundfonts, instruments and tunings")
def main(run: Run, model: str = "lite", n: int = 62, seconds: float = 12.0) -> dict:
    """Measure separation in each domain and write one JSON file.

    Args:
        model: a shipped name or a path; it separates by its default method.
        n: number of songs at most, in order of name.
        seconds: duration of the excerpt of each song, from its beginning.

    Raises:
        InputError: fewer than one song, or an excerpt shorter than a second.
    """
    if n < 1 or not 1 <= seconds < float("inf"):
        raise InputError(f"{n} songs of {seconds:g} s: one song or more, a second or longer")
    loaded, songs = run.load(model), corpus.songs("test", "band")[:n]
    return {"what": "SI-SDR improvement in dB over the mixture, mean over the stems that sound, one value a song; "
            "difference: to the same song as it is",
            "data": "the first seconds of band test songs, rendered anew", "n": len(songs), "model": model,
            "settings": {"seconds": seconds}, "interval": "95 % percentile bootstrap over songs",
            "domains": measure(loaded, songs, seconds), "seed": 0}
