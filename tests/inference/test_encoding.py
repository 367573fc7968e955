import pytest
import torch

from msdm_lite.audio.levels import mixture_rms


def test_loudness_forgets_the_rests():
    tone = torch.sin(torch.arange(22050).float())
    assert mixture_rms(torch.cat([tone, torch.zeros(22050)]), 5512) == pytest.approx(mixture_rms(tone, 5512), rel=0.15)
    assert mixture_rms(0.5 * tone[:3000], 5512) == pytest.approx(0.5 / 2**0.5, rel=0.01)  # shorter than one window
    assert mixture_rms(torch.zeros(100), 50) == 0
