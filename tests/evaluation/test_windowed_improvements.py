import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
from msdm_lite.evaluation.metrics import si_sdr

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


def test_shapes_must_agree():
    with pytest.raises(InputError, match="differ in shape"):
        metrics.windowed_improvements(stems(9), stems(8), RATE)
