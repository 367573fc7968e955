import numpy as np
import pytest
import torch

from msdm_lite.audio import levels
from msdm_lite.audio.io import SAMPLE_RATE


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
