import pytest
import torch

from msdm_lite.evaluation import metrics
from msdm_lite.evaluation.separation_quality import ideal_mask, mixture_baseline


def test_the_mixture_improves_nothing():
    stems = torch.randn(4, 8000)
    assert torch.equal(metrics.si_sdr_improvement(mixture_baseline(stems), stems), torch.zeros(4))


def test_stems_that_do_not_overlap_are_found_whole():
    """Two tones far apart in frequency: each mask is one where the tone is, so next to nothing is lost."""
    time = torch.arange(22050) / 22050
    stems = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (200.0, 5000.0)])
    found = ideal_mask(stems)
    assert found.shape == stems.shape and metrics.si_sdr(found, stems).min() > 40


def test_masks_share_the_mixture_out():
    stems = torch.randn(4, 22050, generator=torch.Generator().manual_seed(0))
    found = ideal_mask(stems)
    assert torch.allclose(found.sum(0), stems.sum(0), atol=1e-4)
    assert 2 < metrics.si_sdr_improvement(found, stems).mean() < 12  # of noise a mask gets something, never all


def test_silence_stays_silent():
    stems = torch.zeros(3, 9000)
    stems[1] = torch.randn(9000)
    found = ideal_mask(stems)
    assert found[0].abs().max() == 0 and found[1].numpy() == pytest.approx(stems[1].numpy(), abs=1e-4)
