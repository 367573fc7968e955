"""What every method converges to on sources whose posterior is known: exact, or biased by how much."""

import json

import pytest
import torch

from msdm_lite.studies import oracle_convergence
from msdm_lite.studies.oracle_convergence import ARMS, SOURCES, curve, distances, sample, target

EXACT = ["mixture: zero-sum noise", "mixture: zero-sum noise, Heun",
         "mixture: zero-sum noise, DPM-Solver++", "mixture: conditional denoiser, weight 1",
         "stem: noise on the others",
         "both: constrained noise"]


def far(name: str, source: str, *evaluations: int) -> list[dict[str, float]]:
    return curve(SOURCES[source](), ARMS[name], list(evaluations), 4000)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["prior: unconditional", *EXACT])
def test_exact_methods_reach_the_posterior(name, source):
    """Of 4000 samples a mean is off by 0.016 deviations, a variance by 0.022 of itself; four of those are allowed."""
    (found,) = far(name, source, 160)
    assert found["mean"] < 0.1 and found["covariance"] < 0.1 and found["sliced_wasserstein"] < 0.05


def test_the_measures_see_what_they_should():
    exact = target(SOURCES["correlated Gaussians"](), ARMS["mixture: Dirac"])
    samples = exact.sample(20000, torch.Generator().manual_seed(0))
    chance = distances(samples, exact)
    assert max(chance.values()) < 0.03
    scale = exact.covariances[0].trace().sqrt()
    moved = distances(samples + torch.tensor([0.3, 0.0, 0.0]) * scale, exact)
    assert moved["mean"] == pytest.approx(0.3, abs=0.03) and moved["covariance"] == pytest.approx(chance["covariance"])
    wide = distances(2 * samples - samples.mean(0), exact)
    assert wide["covariance"] == pytest.approx(3, rel=0.05)  # four times the variance is three too much
    # a line in a random direction of space sees half of what was moved along one axis
    assert moved["sliced_wasserstein"] == pytest.approx(0.15, abs=0.04)


@pytest.mark.parametrize("sampler, order", [("euler", 1), ("heun", 2), ("dpm-solver", 2)])
@pytest.mark.parametrize("conditioning", ["mixture", "stem", "both"])
def test_order_of_convergence(sampler, order, conditioning):
    """Steps doubled: the distance to the end of the same path falls by 2 to the order, for every shape of noise."""
    coarse, fine = oracle_convergence.path_errors(sampler, () if conditioning == "mixture" else (0,),
                                                  conditioning != "stem", [60, 120])
    assert 0.8 * 2**order < coarse / fine < 1.3 * 2**order


@pytest.mark.parametrize("name, source, measure, bias", [
    # The constrained source carries the noise of all others, yet the denoiser is given sigma
    ("mixture: Dirac", "independent Gaussians", "covariance", 0.84),
    ("mixture: Dirac", "two tunes", "sliced_wasserstein", 0.42),
    # gamma = c sigma is no likelihood of the clean sources: the pull starts too weak
    ("mixture: Gaussian", "independent Gaussians", "mean", 0.26),
    # Wiener shares know variances, and no context
    ("mixture: Wiener shares", "correlated Gaussians", "mean", 0.18),
    # PiGDM takes what is uncertain for one Gaussian
    ("mixture: PiGDM", "two tunes", "sliced_wasserstein", 0.25),
    # It optimizes: its samples hardly vary
    ("mixture: ProjDiff", "independent Gaussians", "covariance", 0.96),
    # A weight above 1 sharpens what it should sample
    ("mixture: conditional denoiser, weight 2", "two tunes", "sliced_wasserstein", 0.165),
])
def test_biased_methods_keep_their_bias(name, source, measure, bias):
    """Four times the evaluations change little: what stays is the method's own."""
    found = [one[measure] for one in far(name, source, 80, 320)]
    assert found == pytest.approx([bias, bias], rel=0.15)


def test_noise_that_starts_too_low_remembers_the_start():
    """At a finite first level the state should know the mean a little, and does not: a bias that steps do not cure."""
    sigma_min, = far("mixture: zero-sum noise, Heun", "two tunes", 320)
    sigma_max, = far("mixture: zero-sum noise from sigma 160, Heun", "two tunes", 320)
    assert sigma_min["mean"] > 0.07 and sigma_max["mean"] < 0.04


@pytest.mark.parametrize("name", ["mixture: Wiener shares", "mixture: PiGDM"])
def test_independent_gaussians_are_exact_for_pigdm(name):
    (found,) = far(name, "independent Gaussians", 160)
    assert max(found.values()) < 0.1


@pytest.mark.parametrize("name", ["Dirac", "Gaussian", "Wiener shares"])
def test_churn_lessens_the_bias_slowly(name):
    """Fresh noise lets the sampler forget where it was led; it takes many evaluations, and some bias is left."""
    plain, = far(f"mixture: {name}", "two tunes", 320)
    few, many = far(f"mixture: {name}, churn", "two tunes", 20, 320)
    assert many["sliced_wasserstein"] < 0.8 * few["sliced_wasserstein"]
    assert 0.1 < many["sliced_wasserstein"] < 0.8 * plain["sliced_wasserstein"]


def test_replacement_keeps_a_bias_that_steps_do_not_cure_and_corrections_do():
    oracle = SOURCES["correlated Gaussians"]()
    arm = ARMS["stem: replacement"]
    once = [one["mean"] for one in curve(oracle, arm, [40, 160, 640], 4000)]
    assert once == pytest.approx([once[0]] * 3, abs=0.02) and once[0] > 0.1
    # R times the evaluations for the same 40 levels
    often = curve(oracle, ARMS["stem: replacement, R = 4"], [160], 4000)
    more = curve(oracle, ARMS["stem: replacement, R = 16"], [640], 4000)
    assert once[0] > 1.3 * often[0]["mean"] > 1.3**2 * more[0]["mean"]


@pytest.mark.parametrize("name, evaluations, steps", [
    ("mixture: Dirac", 10, 10), ("mixture: Dirac, churn, R = 2", 10, 5), ("mixture: ProjDiff", 10, 2),
    ("mixture: zero-sum noise, Heun", 10, 5), ("mixture: zero-sum noise, Heun", 11, 6),
    ("stem: replacement, R = 16", 20, None), ("stem: replacement, R = 16", 40, 2)])
def test_no_method_spends_more_than_the_others(name, evaluations, steps):
    method = ARMS[name].method
    assert oracle_convergence.budget(method, evaluations) == steps
    if steps:
        assert method.replace(steps=steps).nfe <= evaluations < method.replace(steps=steps + 1).nfe
    else:
        assert curve(SOURCES["two tunes"](), ARMS[name], [evaluations], 10) == [None]


def test_both_known_by_replacement_is_near():
    """A stem and the mixture, for a prior alone: the given stem comes back, the others sum to what it leaves."""
    for kind in ("Dirac", "Gaussian"):
        x = sample(SOURCES["correlated Gaussians"](), ARMS[f"both: replacement and {kind}"], 160, 500)
        assert torch.equal(x[:, 0], oracle_convergence.POINT[0].expand(500))
        gap = (x.sum(1) - oracle_convergence.POINT.sum()).abs().max()
        assert gap < (1e-9 if kind == "Dirac" else 0.05)


def test_the_record_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle_convergence, "ARMS", {k: ARMS[k] for k in ("mixture: Dirac", "prior: unconditional")})
    oracle_convergence.main(tmp_path / "found.json", 100)
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["sources"]) == set(SOURCES)
    for rows in found["sources"].values():
        assert {len(curve) for curve in rows.values()} == {len(found["evaluations"])} and len(rows) == 3
