from types import SimpleNamespace

import torch

from msdm_lite.evaluation import metrics
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
from msdm_lite.training import batches, validation


def test_spectrograms_do_not_wrap():
    """A crop's picture is a slice of its song's: what sounds at the end is not heard at the beginning."""
    model = Model(preset("tiny"))
    crop = torch.zeros(1, 4, batches.crop_samples(model))
    crop[..., -model.config.bins :] = torch.randn(model.config.bins)
    assert batches.encode_crops(model, crop)[..., :4].abs().max() < 1e-5


def test_a_quick_separation_without_conditioning_on_the_mixture():
    """Of independent Gaussian stems whose levels differ widely it lies between a posterior sample and the mean.

    Dirac with sixteen levels and no churn ends forty decibels below both.
    """
    generator = torch.Generator().manual_seed(1)
    v = torch.rand(4, 32, 1, generator=generator) ** 12
    x = v.sqrt() * torch.randn(6, 4, 32, 64, generator=generator)
    model = SimpleNamespace(takes_mixture=False, trained_for=lambda **shape: False, variance=v,
                            denoise=lambda x, sigma: x * v / (v + sigma[:, None, None, None] ** 2))
    share, other = v / v.sum(0), v.sqrt() * torch.randn(x.shape, generator=generator)
    mean = share * x.sum(1, keepdim=True)
    sample = mean + other - share * other.sum(1, keepdim=True)
    low, high = (metrics.si_sdr_improvement(y.flatten(2), x.flatten(2)).mean() for y in (sample, mean))
    assert low < validation.quick_separation(model, x, torch.Generator().manual_seed(0)) < high
