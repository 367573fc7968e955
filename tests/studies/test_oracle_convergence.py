"""What every method converges to on sources whose posterior is known: exact, or biased by how much."""

import json
from itertools import pairwise

import numpy as np
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


INSIDE = np.array([[-1.0, -1], [1, 0], [0, 1]])  # three stems, of which the first is the mixture minus the others


def slope(kind: str, C: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A and b of a method's ODE dx / d sigma = A x + b on Gaussians of covariance C; of Dirac for stems 1 and 2.

    It is written out anew, and uses nothing of the package but the mixture.
    """
    y, variance, ones = float(oracle_convergence.POINT.sum()), np.diag(C), np.ones(3)
    prior = (np.eye(3) - C @ np.linalg.inv(C + sigma**2 * np.eye(3))) / sigma
    if kind == "Gaussian":  # minus sigma times the gradient of -(y - sum)^2 / (2 c^2 sigma^2), c^2 = 9 / 8
        return prior + np.outer(ones, ones) / (1.125 * sigma), -ones * y / (1.125 * sigma)
    if kind == "Wiener shares":
        left = variance * sigma**2 / (variance + sigma**2)
        share = left / left.sum()
        fixed = np.eye(3) - np.outer(share, ones)
        return np.eye(3) / sigma - fixed @ (np.eye(3) / sigma - prior), -share * y / sigma
    less = prior[1:] - prior[0]
    return less @ INSIDE, less @ np.array([y, 0, 0])


def limit(kind: str, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance that a method ends with on Gaussians of covariance C as steps grow, from noise of level 10.

    The ODE is linear: its mean and its matrix are integrated by Runge and Kutta.
    """
    size = 2 if kind == "Dirac" else 3
    x = np.concatenate([np.zeros((size, 1)), np.eye(size)], 1)  # the mean, and the matrix beside it
    for high, low in pairwise(np.geomspace(10, 1e-3, 600)):
        h, slopes = low - high, []
        for share in (0, 0.5, 0.5, 1):
            A, b = slope(kind, C, high + share * h)
            rise = A @ (x + share * h * slopes[-1] if slopes else x)
            rise[:, 0] += b
            slopes.append(rise)
        x = x + h / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])
    mean, covariance = x[:, 0], 100 * x[:, 1:] @ x[:, 1:].T
    if kind == "Dirac":
        y = float(oracle_convergence.POINT.sum())
        return np.array([y, 0, 0]) + INSIDE @ mean, INSIDE @ covariance @ INSIDE.T
    return mean, covariance


@pytest.mark.parametrize("kind", ["Dirac", "Gaussian", "Wiener shares"])
@pytest.mark.parametrize("source", ["independent Gaussians", "correlated Gaussians"])
def test_the_bias_on_gaussians_is_that_of_the_method_s_ode(kind, source):
    """Moments of 10 000 samples: a mean is off by 0.01 deviations, a variance by 0.014; four of those are allowed."""
    oracle, arm = SOURCES[source](), ARMS[f"mixture: {kind}"]
    x = sample(oracle, arm, 320, 10_000)
    mean, covariance = limit(kind, oracle.covariances[0].numpy())
    assert np.linalg.norm(x.numpy().mean(0) - mean) < 0.04 * np.sqrt(np.trace(covariance))
    assert np.linalg.norm(np.cov(x.numpy().T) - covariance) < 0.06 * np.linalg.norm(covariance)
    exact = target(oracle, arm)
    apart, C = mean - exact.means[0].numpy(), exact.covariances[0].numpy()
    found = distances(x, exact)  # of the same samples to the posterior: the bias, in the units of the record
    assert found["mean"] == pytest.approx(np.linalg.norm(apart) / np.sqrt(np.trace(C)), abs=0.04)
    assert found["covariance"] == pytest.approx(np.linalg.norm(covariance - C) / np.linalg.norm(C), abs=0.06)


@pytest.mark.parametrize("name, source, measure, bias", [
    # Two modes and a method that optimizes: no closed form, so these are what this code found, to notice a change.
    # The constrained source carries the noise of all others, yet the denoiser is given sigma
    ("mixture: Dirac", "two tunes", "sliced_wasserstein", 0.42),
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
