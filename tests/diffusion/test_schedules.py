import pytest

from msdm_lite.diffusion.schedules import SCHEDULES, check_levels, exponential, karras, linear
from msdm_lite.errors import InputError


def test_karras_is_equation_5():
    levels = karras(5, 0.1, 10.0, rho=7)
    expected = [(10 ** (1 / 7) + i / 4 * (0.1 ** (1 / 7) - 10 ** (1 / 7))) ** 7 for i in range(5)] + [0.0]
    assert levels == pytest.approx(expected)
    assert karras(1, 0.1, 10.0) == pytest.approx([10.0, 0.0])


def test_other_schedules():
    assert exponential(4, 0.01, 10.0) == pytest.approx([10, 1, 0.1, 0.01, 0])
    assert linear(4, 1.0, 4.0) == pytest.approx([4, 3, 2, 1, 0])
    with pytest.raises(InputError, match="rho"):
        karras(5, 0.1, 1.0, rho=0.0)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("steps, sigma_min, sigma_max", [(5, 0.1, -1.0), (5, -0.1, 1.0), (5, 0.0, 1.0), (0, 0.1, 1.0),
                                                         (5, 1.0, 0.1), (5, 0.1, float("inf"))])
def test_levels_that_make_no_schedule_are_refused_by_all(schedule, steps, sigma_min, sigma_max):
    with pytest.raises(InputError, match="no schedule"):
        SCHEDULES[schedule](steps, sigma_min, sigma_max)


def test_karras_has_the_exponent_of_the_paper_and_takes_others():
    assert karras(5, 0.1, 10.0) == karras(5, 0.1, 10.0, rho=7.0)
    assert karras(4, 1.0, 4.0, rho=1.0) == pytest.approx([4, 3, 2, 1, 0])  # 1 is linear


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_one_level_or_two_make_a_schedule_in_double_precision(schedule):
    make = SCHEDULES[schedule]
    # single precision knows 0.3 to 4e-8, double to 4e-17, times seven for the powers of karras
    assert make(1, 0.3, 0.3) == pytest.approx([0.3, 0], rel=1e-12)  # one level needs no distance
    assert make(2, 0.1, 0.3) == pytest.approx([0.3, 0.1, 0], rel=1e-12)
    with pytest.raises(InputError, match="no schedule"):
        make(2, 0.3, 0.3)


@pytest.mark.parametrize("levels", [[1.0, 0.5, -1.0], [], [1.0], [1.0, 1.0, 0.0], [float("nan"), 0.0],
                                    [float("inf"), 0.0]])
def test_levels_that_do_not_decrease_are_refused(levels):
    with pytest.raises(InputError, match="must decrease"):
        check_levels(levels)


def test_levels_may_end_above_zero():
    check_levels([1.0, 0.5])
    check_levels([1.0, 0.5, 0.0])


def test_a_schedule_has_a_number_of_levels_that_a_machine_can_hold():
    with pytest.raises(InputError, match=r"1000000000 noise levels .* make no schedule"):
        karras(10**9, 0.01, 1.0)
