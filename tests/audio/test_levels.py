import numpy as np
import pytest
import torch

from msdm_lite.audio import levels
from msdm_lite.audio.io import SAMPLE_RATE


def test_active_levels_of_tensor_and_array_agree_and_rests_do_not_count():
    """A tone for half the time is as loud as one that never stops; 60 dB below its loudest window nothing counts."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    half = tone.copy()
    half[2 * SAMPLE_RATE :] *= 1e-3
    for wave in (tone, half):
        window = SAMPLE_RATE // 4
        by_tensor = levels.mixture_rms(torch.from_numpy(wave), window)
        # The windows do not divide two seconds: the one in which the tone ends holds a part of it
        assert levels.active_rms(wave) == pytest.approx(0.1 / 2**0.5, rel=0.02)
        assert by_tensor == pytest.approx(levels.active_rms(wave), rel=0.02)  # which leaves a short last window out


def test_equal_levels_do_not_clip():
    rng = np.random.default_rng(0)
    stems = 0.3 * rng.standard_normal((4, SAMPLE_RATE)).astype(np.float32)
    stems[1] *= 10
    out = levels.equal_rms(stems)
    assert [levels.active_rms(stem) for stem in out] == pytest.approx([levels.STEM_RMS] * 4, rel=1e-3)
    loud = levels.equal_rms(stems, rms=1.0)
    assert max(np.abs(loud).max(), np.abs(loud.sum(0)).max()) == pytest.approx(0.99, rel=1e-3)
    assert levels.MIXTURE_RMS == 2 * levels.STEM_RMS
