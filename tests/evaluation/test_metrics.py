import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from msdm_lite.errors import InputError
from msdm_lite.evaluation.metrics import bootstrap, si_sdr, si_sdr_improvement


def test_si_sdr_is_that_of_torchmetrics():
    target = torch.randn(3, 4, 5000)
    estimate = target + 0.3 * torch.randn(3, 4, 5000)
    assert torch.allclose(si_sdr(estimate, target), scale_invariant_signal_distortion_ratio(estimate, target),
                          atol=1e-3)


def test_scale_does_not_matter_and_noise_has_its_level():
    target, noise = torch.randn(2, 200_000)
    noise = noise - (noise @ target) / (target @ target) * target
    noise = noise / noise.norm() * target.norm() / 10
    assert si_sdr(target + noise, target).item() == pytest.approx(20, abs=1e-3)
    assert si_sdr(7 * (target + noise), target).item() == pytest.approx(20, abs=1e-3)


def test_the_mixture_itself_improves_nothing():
    stems = torch.randn(2, 4, 1000)
    assert si_sdr_improvement(stems.sum(1, keepdim=True).expand_as(stems), stems).abs().max() < 1e-4


def test_a_silent_stem_has_no_value():
    stems = torch.randn(4, 1000)
    stems[2] = 0
    gain = si_sdr_improvement(stems + 0.1 * torch.randn(4, 1000), stems)
    assert gain.isnan().tolist() == [False, False, True, False] and (gain[[0, 1, 3]] > 10).all()


def test_shapes_must_agree():
    with pytest.raises(InputError, match="differ in shape"):
        si_sdr(torch.zeros(4), torch.zeros(5))


def test_bootstrap_is_scipys():
    values = np.random.default_rng(1).normal(5, 2, 30)
    mean, low, high = bootstrap([*values, np.nan])
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2),
                                   n_resamples=10000).confidence_interval
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(theirs.low, abs=0.05) and high == pytest.approx(theirs.high, abs=0.05)


def test_no_interval_from_few():
    with pytest.raises(InputError, match="at least 8"):
        bootstrap([1.0] * 7)
