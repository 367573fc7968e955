import numpy as np
import pytest
import scipy.stats
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
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


RATE = 1000


def stems(seconds=9, seed=0):
    return torch.randn(4, seconds * RATE, generator=torch.Generator().manual_seed(seed))


def test_windows_of_four_seconds_every_two():
    x = stems(9)
    w = metrics.scoring_windows(x, RATE)
    assert w.shape == (3, 4, 4 * RATE)  # from 0, 2 and 4 s; what begins at 6 s would be too short
    assert torch.equal(w[1], x[:, 2 * RATE : 6 * RATE])
    assert metrics.scoring_windows(x[:, :RATE], RATE).shape == (1, 4, RATE)


def test_both_scorings_agree_where_all_play():
    true = stems()
    found = true + 0.3 * stems(seed=1)
    published, active = metrics.windowed_improvements(found, true, RATE)
    assert torch.equal(published, active) and published.shape == (3, 4)
    mix = true.sum(0)
    by_hand = si_sdr(found[2, : 4 * RATE], true[2, : 4 * RATE]) - si_sdr(mix[: 4 * RATE], true[2, : 4 * RATE])
    assert published[0, 2].item() == pytest.approx(by_hand.item(), abs=1e-4)


def test_against_silence_a_quiet_guess_scores_tens_of_decibels_as_published_and_nothing_else():
    """Exactly 20 log10 of how much quieter the guess is than the mixture: the trap that the second scoring avoids."""
    true = stems()
    true[3] = 0
    found = true.clone()
    found[3] = 1e-3 * true.sum(0)
    published, active = metrics.windowed_improvements(found, true, RATE)
    assert published[:, 3] == pytest.approx([60.0] * 3, abs=0.5)
    assert active[:, 3].isnan().all() and not active[:, :3].isnan().any()


def test_windows_in_which_one_plays_alone_are_left_out():
    true = stems(12)
    true[1:, : 4 * RATE] = 0  # the first window is a solo
    published, _ = metrics.windowed_improvements(true, true, RATE)
    assert len(published) == len(metrics.scoring_windows(true, RATE)) - 1


def test_the_silence_test_is_the_published_one():
    length = 4 * RATE
    x = torch.zeros(1, length)
    x[0, 0] = 1.4e-5 * length
    assert not metrics.active_stems(x).any()
    x[0, 0] = 1.6e-5 * length
    assert metrics.active_stems(x).all()


def test_shapes_of_whole_songs_must_agree():
    for score in (metrics.windowed_improvements, metrics.published_improvements):
        with pytest.raises(InputError, match="differ in shape"):
            score(stems(9), stems(8), RATE)


@pytest.mark.parametrize("samples, windows", [(1999, 0), (2000, 0), (2001, 1), (4000, 1), (4001, 2), (6000, 2),
                                              (7000, 3), (9000, 4)])
def test_as_published_what_is_left_is_a_window_too(samples, windows):
    """If it is longer than the 2 s that two windows share: the last one begins at a multiple of 2 s, 2 s before the end
    or less."""
    true = stems(9)[:, :samples]
    found = true + 0.3 * stems(9, seed=1)[:, :samples]
    gains = metrics.published_improvements(found, true, RATE)
    assert gains.shape == (windows, 4)
    if windows:
        start = 2000 * (windows - 1)
        last, mix = true[2, start:], true.sum(0)[start:]
        by_hand = si_sdr(found[2, start:], last) - si_sdr(mix, last)
        assert gains[-1, 2].item() == pytest.approx(by_hand.item(), abs=1e-4)
    whole, _ = metrics.windowed_improvements(found, true, RATE)
    if samples >= 4000:
        assert torch.allclose(gains[: len(whole)], whole, atol=1e-4)


def test_the_length_of_the_last_window_counts_in_the_test_of_silence():
    true = torch.zeros(2, 6500)
    true[:, 4000] = torch.tensor([1.0, 0.05])  # 0.05 over 2500 samples is heard, over 4000 it is not
    assert len(metrics.published_improvements(true, true, RATE)) == 1


def test_windows_of_all_songs_have_one_mean():
    found = metrics.pooled([[1.0, 2.0, 6.0], [11.0], []])
    assert found == {"mean": 5.0, "low": None, "high": None, "n": 2, "windows": 4}
    assert metrics.pooled([])["mean"] is None


def test_the_interval_of_windows_is_drawn_by_songs():
    """With equally many windows a song it is that of the means of songs. More windows of a song make it no surer."""
    rng = np.random.default_rng(3)
    songs = rng.normal(5, 2, (12, 1)) + rng.normal(0, 0.1, (12, 5))
    found, wanted = metrics.pooled(songs), bootstrap(songs.mean(1))
    assert (found["mean"], found["low"], found["high"]) == pytest.approx(wanted)
    again = metrics.pooled(np.repeat(songs, 10, 1))
    assert again["high"] - again["low"] == pytest.approx(found["high"] - found["low"])


@pytest.mark.parametrize("full_scale", [1.0, 1e-3, 1e-5, 1e-8, 1e-12, 1e-20])
@pytest.mark.parametrize("estimate_scale", [1.0, 1e-5])
def test_soft_signals_have_the_value_of_loud_ones(full_scale, estimate_scale, generator):
    """20 dB by construction, whatever the level of either: scale-invariant means that too."""
    target, noise = torch.randn(2, 20_000, generator=generator)
    noise = noise - (noise @ target) / (target @ target) * target
    estimate = target + noise / noise.norm() * target.norm() / 10
    found = si_sdr(estimate_scale * full_scale * estimate, full_scale * target)
    assert found.item() == pytest.approx(20, abs=1e-3)
    stems = torch.stack([target, noise])
    guesses = torch.stack([estimate, noise])
    assert si_sdr_improvement(full_scale * guesses, full_scale * stems)[0].item() == pytest.approx(
        si_sdr_improvement(guesses, stems)[0].item(), abs=1e-3)


def test_the_score_of_active_stems_is_right_for_a_soft_estimate_and_the_published_one_is_as_it_was():
    """An estimate 100 dB too soft: as good as a loud one; with the eps of the published code it is worth nothing."""
    true = stems()
    found = true + 0.3 * stems(seed=1)
    loud, soft = (metrics.windowed_improvements(scale * found, true, RATE) for scale in (1.0, 1e-7))
    assert torch.allclose(soft[1], loud[1], atol=1e-3)
    energy = (1e-7 * true[0, : 4 * RATE]).square().sum()
    mixture = si_sdr(true.sum(0)[: 4 * RATE], true[0, : 4 * RATE])
    assert energy < 0.01 * metrics.PUBLISHED_EPS
    assert soft[0][0, 0].item() == pytest.approx(-mixture.item(), abs=0.1)  # 10 log10(eps / eps)


def test_a_nan_stays_a_nan():
    assert si_sdr(torch.tensor([1.0, torch.nan, 0.0]), torch.tensor([1.0, 0.5, 0.0])).isnan()


@pytest.mark.parametrize("n, covered", [(8, 0.88), (30, 0.94)])
def test_how_often_intervals_contain_the_mean(n, covered):
    """Of 2000 sets of normal values; the standard error of the share is 0.007. The docstring names both numbers."""
    draws = np.random.default_rng(n).normal(3, 2, (2000, n))
    found = [bootstrap(values, draws=1000) for values in draws]
    share = np.mean([low <= 3 <= high for _, low, high in found])
    assert share == pytest.approx(covered, abs=0.02)
    assert f"{100 * covered:.0f} %" in bootstrap.__doc__


def test_infinite_values_are_counted_and_not_dropped_in_silence():
    values = [1.0, 2.0, 3.0, np.inf, np.nan]
    assert metrics.interval(values) == {"mean": 2.0, "low": None, "high": None, "n": 3, "infinite": 1}
    assert "infinite" not in metrics.interval([1.0, np.nan])
    with pytest.raises(InputError, match="1 of 9 values are infinite"):
        bootstrap([*range(8), -np.inf])
