"""Against sounds whose answer is known: clocks, tones, noise, and chords that agree or do not."""

import math

import pytest
import torch

from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import coherence

RATE = 22050


def clock(period: float, seconds: float = 6.0, jitter: float = 0.0) -> torch.Tensor:
    wave = torch.zeros(round(seconds * RATE))
    generator = torch.Generator().manual_seed(0)
    for n in range(int(seconds / period) - 1):
        late = jitter * torch.rand((), generator=generator).item()
        start = round((n * period + late) * RATE)
        wave[start : start + 2000] += torch.randn(2000, generator=generator) * torch.linspace(1, 0, 2000) ** 2
    return 0.2 * wave


def tones(*hertz: float, seconds: float = 3.0) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE)) / RATE
    return 0.06 * sum(torch.sin(2 * math.pi * f * t) + 0.5 * torch.sin(4 * math.pi * f * t) for f in hertz)


def noise(seconds: float = 3.0, seed: int = 0) -> torch.Tensor:
    return 0.06 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def test_a_clock_has_a_beat_and_noise_has_none():
    assert coherence.beat_salience(clock(0.5)) > 0.8
    assert coherence.beat_salience(noise(6.0)) < 0.3
    assert coherence.beat_salience(clock(0.5, jitter=0.4)) < 0.6
    assert math.isnan(coherence.beat_salience(torch.zeros(60_000)))


def test_a_tone_has_a_pitch_and_noise_has_none():
    for hertz in (55.0, 220.0, 880.0):
        assert coherence.pitch_salience(tones(hertz)) > 0.97
    assert coherence.pitch_salience(noise()) < 0.2
    half = tones(220.0) + 0.07 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    assert 0.2 < coherence.pitch_salience(half) < 0.9
    assert math.isnan(coherence.pitch_salience(torch.zeros(60_000)))
    with pytest.raises(InputError, match="4096 samples"):
        coherence.pitch_salience(torch.zeros(100))


def test_pitch_does_not_depend_on_loudness():
    assert coherence.pitch_salience(tones(220.0)) == pytest.approx(coherence.pitch_salience(1e-3 * tones(220.0)))


def test_audible_stems():
    stems = torch.stack([noise(), 0.001 * noise(), torch.cat([noise(1.0), torch.zeros(2 * RATE)]), 0 * noise()])
    assert coherence.audible(stems).tolist() == [True, False, True, False]
    assert coherence.audible(torch.stack([stems, stems])).shape == (2, 4)
    assert coherence.audible(stems[:, :1000]).tolist() == [True, False, True, False]  # of a moment, all of it


def test_onsets_agree_where_stems_start_together():
    together = torch.stack([clock(0.5), 0.3 * clock(0.5)])
    apart = torch.stack([clock(0.5), clock(0.37)])
    assert coherence.onset_agreement(together) > 0.9 > 0.3 > coherence.onset_agreement(apart)
    assert math.isnan(coherence.onset_agreement(torch.stack([clock(0.5), torch.zeros(6 * RATE)])))


def test_chroma_agrees_within_a_chord_and_across_octaves():
    names = ("bass", "drums", "guitar", "piano")
    chord = (261.6, 329.6, 392.0)
    same = torch.stack([tones(*(f / 2 for f in chord)), noise(), tones(*chord), tones(*(2 * f for f in chord))])
    tritone = torch.stack([tones(*chord), noise(), tones(*(f * 2**0.5 for f in chord)), 0 * noise()])
    assert coherence.chroma_agreement(same, names) > 0.8
    assert coherence.chroma_agreement(tritone, names) < 0
    assert math.isnan(coherence.chroma_agreement(same[:2], names[:2]))  # the drums have no chord
    others = ("other", "drums", "vocals", "strings")  # stems of any other name have
    assert coherence.chroma_agreement(same, others) == coherence.chroma_agreement(same, names)


def test_shuffled_bands_have_stems_of_others():
    bands = (10 * torch.arange(6)[:, None] + torch.arange(4))[..., None].float()  # (6, 4, 1): which band, which stem
    mixed = coherence.shuffled(bands)[..., 0]
    assert (mixed % 10).tolist() == [[0, 1, 2, 3]] * 6
    assert all(len(set(row)) == 4 for row in (mixed // 10).tolist())
    assert all(sorted(column) == [0, 1, 2, 3, 4, 5] for column in (mixed // 10).T.tolist())
    with pytest.raises(InputError, match="no other"):
        coherence.shuffled(bands[:1])


def test_real_bands_cohere_better_than_shuffled_ones():
    """On the shipped clips: the measures see what they are for."""
    bands = torch.stack([example_clips.clip(entry["name"])[:, : 5 * RATE]
                         for entry in example_clips.clips("band")[:12]])
    names = ("bass", "drums", "guitar", "piano")
    for measure in (coherence.onset_agreement, lambda band: coherence.chroma_agreement(band, names)):
        true, mixed = (sum(map(measure, some)) / len(some) for some in (bands, coherence.shuffled(bands)))
        assert true > mixed + 0.05
