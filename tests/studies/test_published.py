"""The paper's figures, held against each other: a wrong digit shows."""

from itertools import combinations

import pytest

from msdm_lite.audio.io import STEMS
from msdm_lite.studies import published


def test_means_over_the_stems_are_those_of_the_table():
    for arm, stems in published.STEMS.items():
        assert len(stems) == 4 and sum(stems) / 4 == pytest.approx(published.SEPARATION[arm], abs=0.01)


def test_every_arm_is_there_with_and_without_corrections():
    arms = {(model, method) for model, method, _ in published.SEPARATION}
    assert len(published.SEPARATION) == 2 * len(arms) == 8
    assert all(published.SEPARATION[*arm, True] > published.SEPARATION[*arm, False] for arm in arms)


def test_every_subset_of_added_stems_has_its_figure():
    wanted = {", ".join(some) for count in (1, 2, 3) for some in combinations(STEMS, count)}
    assert set(published.SUB_FAD) == wanted
