"""The paper's figures, held against each other, so that a wrong digit shows, and its settings, held against ours."""

from dataclasses import asdict
from itertools import pairwise

import pytest

from msdm_lite.diffusion.methods import GENERATIONS, IMPUTATIONS, METHODS
from msdm_lite.evaluation import metrics
from msdm_lite.models.config import preset
from msdm_lite.studies import published
from msdm_lite.studies.recorded_commands import COMMANDS


def test_means_over_the_stems_are_those_of_the_table():
    for arm, stems in published.STEMS.items():
        assert len(stems) == 4 and sum(stems) / 4 == pytest.approx(published.SEPARATION[arm], abs=0.01)


def test_every_arm_is_there_with_and_without_corrections():
    arms = {(model, method) for model, method, _ in published.SEPARATION}
    assert len(published.SEPARATION) == 2 * len(arms) == 8
    assert all(published.SEPARATION[*arm, True] > published.SEPARATION[*arm, False] for arm in arms)


def test_only_figures_that_a_text_at_hand_quotes_are_there():
    """Sub-FAD: of two choices of stems. By stem: the two rows of corrected Dirac."""
    assert published.SUB_FAD == {"guitar": 0.11, "bass, guitar, piano": 4.90}
    assert set(published.STEMS) == {("joint", "dirac", True), ("independent", "dirac", True)}


def words_of(command):
    words = command.split()
    return {word.removeprefix("--"): value for word, value in pairwise(words)
            if word.startswith("--")}


def test_every_published_setting_is_that_of_the_package():
    """Of samplers, scores, network and records. The independent models differ from the joint one in Dirac's churn."""
    table = published.SETTINGS
    ours = {"dirac": METHODS, "gaussian": METHODS, "generation": GENERATIONS, "imputation": IMPUTATIONS}
    names = {"generation": "paper", "imputation": "replacement"}
    assert set(table) == {(which, method) for which in ("joint", "independent") for method in ("dirac", "gaussian")} | {
        ("joint", task) for task in names}
    for (which, method), wanted in table.items():
        found = ours[method][names.get(method, method)]
        if which == "independent":
            found = found.replace(churn=wanted.churn)
        assert wanted.source.startswith(("exp/eval_", "notebooks/"))
        for field in ("steps", "sigma_max", "sigma_min", "churn", "corrections"):
            assert getattr(found, field) == getattr(wanted, field), (which, method, field)
        own = {"gamma": found.guidance.c / 2**0.5} if "gamma" in wanted.own else {
            key: getattr(found.guidance, key) or 0 for key in wanted.own}  # no constrained stem means the first
        assert own == pytest.approx(wanted.own)
        assert (found.sampler, found.schedule) == ("euler", "karras")
        third = (wanted.sigma_max ** (1 / wanted.rho) + 2 / (wanted.steps - 1) * (
            wanted.sigma_min ** (1 / wanted.rho) - wanted.sigma_max ** (1 / wanted.rho))) ** wanted.rho
        assert found.sigmas[2] == pytest.approx(third) and len(found.sigmas) == wanted.steps + 1
    assert {key: one.churn for key, one in table.items() if key[1] == "dirac"} == {
        ("joint", "dirac"): 20, ("independent", "dirac"): 40}
    records = [name for name in COMMANDS if name.startswith("published-")]
    assert len(records) == 20
    for name in records:
        key = "independent" if "independent" in name else "joint", "dirac" if "dirac" in name else "gaussian"
        wanted, said = table[key], words_of(COMMANDS[name])
        assert (int(said["steps"]), float(said["churn"])) == (wanted.steps, wanted.churn), name
        assert int(said["corrections"]) == (wanted.corrections if name.endswith("corrected") else 1), name
        assert (said["method"], said["model"]) == (key[1], {"joint": "lite"}.get(key[0], "lite-independent"))
    scoring = {key: value for key, (value, _) in published.SCORING.items()}
    assert (scoring["window"], scoring["hop"], scoring["silent"], scoring["eps"]) == (
        metrics.SCORING_WINDOW, metrics.SCORING_HOP, metrics.SILENT, metrics.si_sdr.__defaults__[0])
    paper = preset("paper")
    assert {key: asdict(paper.net)[key] for key in published.NETWORK} == published.NETWORK
    assert paper.bins * paper.frames == scoring["chunk"] and paper.sample_rate == scoring["sample_rate"]
    assert (paper.sigma_data, paper.levels) == (published.SIGMA_DATA, published.LEVELS)
