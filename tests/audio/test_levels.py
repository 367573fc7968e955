import numpy as np
import pytest
import torch

from msdm_lite.audio import levels
from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.audio.levels import mixture_rms


def test_rests_do_not_count():
    """A tone for half the time is as loud as one that never stops: what is 60 dB softer is left out."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    half = tone.copy()
    half[2 * SAMPLE_RATE :] *= 1e-3
    for wave in (tone, half):  # the window in which the tone ends holds a part of it
        assert levels.active_rms(wave) == pytest.approx(0.1 / 2**0.5, rel=0.1)
        assert levels.mixture_rms(torch.from_numpy(wave), SAMPLE_RATE // 4) == pytest.approx(0.1 / 2**0.5, rel=0.1)


def test_equal_levels_do_not_clip():
    rng = np.random.default_rng(0)
    stems = 0.3 * rng.standard_normal((4, SAMPLE_RATE)).astype(np.float32)
    stems[1] *= 10
    out = levels.equal_rms(stems)
    assert [levels.active_rms(stem) for stem in out] == pytest.approx([levels.STEM_RMS] * 4, rel=1e-3)
    loud = levels.equal_rms(stems, rms=1.0)
    assert max(np.abs(loud).max(), np.abs(loud.sum(0)).max()) == pytest.approx(0.99, rel=1e-3)
    assert levels.MIXTURE_RMS == 2 * levels.STEM_RMS


def test_loudness_forgets_the_rests():
    tone = torch.sin(torch.arange(22050).float())
    assert mixture_rms(torch.cat([tone, torch.zeros(22050)]), 5512) == pytest.approx(mixture_rms(tone, 5512), rel=0.15)
    assert mixture_rms(0.5 * tone[:3000], 5512) == pytest.approx(0.5 / 2**0.5, rel=0.01)  # shorter than one window
    assert mixture_rms(torch.zeros(100), 50) == 0


def test_the_level_of_a_mixture_with_faults():
    """An offset, a click, and a minute of noise 30 dB below leave the level as it is, to a decibel."""
    n = torch.arange(10 * 22050)
    tone = 0.1 * torch.sin(n / 30) * (n % 11025 < 8000)
    right = mixture_rms(tone, 5512)
    click = 0.001 * tone
    click[50000] = 1.0
    soft = 0.03 * right * torch.randn(60 * 22050)
    assert mixture_rms(tone + 0.5, 5512) == pytest.approx(right, rel=0.01)
    assert mixture_rms(click, 5512) == pytest.approx(0.001 * right, rel=0.01)
    assert mixture_rms(torch.cat([soft, tone]), 5512) == pytest.approx(right, rel=0.12)
