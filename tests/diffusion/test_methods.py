"""Every method by name on every task, on an analytic distribution: what is known is returned, and errors come first."""

from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Task
from msdm_lite.diffusion.methods import GENERATIONS, IMPUTATIONS, METHODS, by_name
from msdm_lite.diffusion.oracle import gaussian
from msdm_lite.errors import InputError

VARIANCE = torch.tensor([1.0, 0.25, 0.5]).double()
POINT = torch.tensor([[0.9, -0.4, 0.6], [0.1, 0.2, -0.3]]).double()


@pytest.fixture
def oracle():
    return gaussian(torch.zeros(3).double(), torch.diag(VARIANCE))


def run(oracle, method, **task):
    states = methods.sample(Task((2, 3), variance=VARIANCE, **task), oracle.denoise, method,
                            torch.Generator().manual_seed(0))
    return sampling.final_state(states).x


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"guided"}))
@pytest.mark.parametrize("stems", [(), (1,), (0, 2)])
def test_what_is_known_comes_back(oracle, name, stems):
    method = by_name(name, steps=30, sigma_max=3.0)
    if name == "projdiff" and stems:
        with pytest.raises(InputError, match="ProjDiff separates"):
            run(oracle, method, mixture=POINT.sum(1), given=POINT, stems=stems)
        return
    given = {"given": POINT, "stems": stems} if stems else {}
    x = run(oracle, method, mixture=POINT.sum(1), **given)
    assert torch.equal(x[:, list(stems)], POINT[:, list(stems)])
    gap = (x.sum(1) - POINT.sum(1)).abs().max()
    assert gap < (1.0 if name == "gaussian" else 0.1 if name == "pigdm" else 1e-9)
    assert x[:, 1 if 1 not in stems else 0].abs().max() > 0.01


@pytest.mark.parametrize("name", IMPUTATIONS)
def test_imputation_leaves_the_given_stems_and_finds_the_others(oracle, name):
    x = run(oracle, by_name(name, IMPUTATIONS, steps=20), given=POINT, stems=(1,))
    assert torch.equal(x[:, 1], POINT[:, 1]) and x[:, 0].abs().min() > 0


def test_a_span_of_time_is_imputed(oracle):
    """Two frames of one stem are given, and nothing else."""

    def denoise(x, sigma):
        return x / (1 + sigma[:, None, None] ** 2)

    given, mask = torch.randn(1, 3, 5), torch.zeros(3, 5, dtype=torch.bool)
    mask[1, 2:4] = True
    task = Task((1, 3, 5), given=given, span=mask)
    x = sampling.final_state(methods.sample(task, denoise, by_name("replacement", IMPUTATIONS, steps=9))).x
    assert torch.equal(x[0][mask], given[0][mask]) and not torch.isclose(x[0][~mask], given[0][~mask]).any()
    with pytest.raises(InputError, match="span of time"):
        methods.sample(task, denoise, by_name("stems-given", IMPUTATIONS))
    with pytest.raises(InputError, match="no mixture goes with a span"):
        Task((1, 3, 5), given.sum(1), given, span=mask)


def test_total_generation_is_the_prior(oracle):
    for name in GENERATIONS:
        states = methods.sample(Task((3000, 3)), oracle.denoise, by_name(name, GENERATIONS),
                                torch.Generator().manual_seed(0), torch.device("cpu"))
        x = sampling.final_state(states).x
        assert x.var(0) == pytest.approx(VARIANCE, rel=0.2)


def test_guided_is_conditioned_on_the_mixture(oracle):
    seen = []

    def denoise(x, sigma, conditioning=None):
        seen.append(conditioning is not None and conditioning.given("mixture") is not None)
        return oracle.denoise(x, sigma)

    for weight, expected in ((1.0, [True]), (2.0, [True, False])):
        seen.clear()
        method = by_name("guided", steps=1, weight=weight)
        sampling.final_state(methods.sample(Task((2, 3), POINT.sum(1)), denoise, method))
        assert seen == expected and method.nfe == len(expected)


@pytest.mark.parametrize("settings, says", [({"magic": 1}, "no setting 'magic'"), ({"sampler": "magic"}, "no sampler"),
                                            ({"schedule": "magic"}, "no schedule"), ({"summary": ""}, "no setting")])
def test_settings_that_do_not_exist(settings, says):
    with pytest.raises(InputError, match=says):
        by_name("dirac", **settings)


def test_settings_of_none_change_nothing():
    assert by_name("dirac", steps=None, churn=None) == METHODS["dirac"]
    assert by_name("dirac", weight=None) == METHODS["dirac"]  # a setting of other methods that nobody gave
    with pytest.raises(InputError, match="no method 'magic'"):
        by_name("magic")


@pytest.mark.parametrize("task, says", [
    ({"mixture": POINT.sum(1), "given": POINT, "stems": (0, 1, 2)}, r"\[0, 1, 2\] cannot be the known"),
    ({"mixture": POINT.sum(1), "given": POINT, "stems": (3,)}, r"\[3\] cannot be the known"),
    ({"mixture": POINT.sum(1), "stems": (0,)}, "known stems need their sound"),
    ({"mixture": POINT.sum(1), "given": POINT}, "`given` needs known stems"),
    ({}, "dirac needs a mixture")])
def test_refused_tasks(oracle, task, says):
    with pytest.raises(InputError, match=says):
        run(oracle, METHODS["dirac"], **task)


def test_variance_is_required(oracle):
    for name in ("wiener", "pigdm"):
        with pytest.raises(InputError, match="needs the variance"):
            methods.sample(Task((2, 3), POINT.sum(1)), oracle.denoise, METHODS[name])
    with pytest.raises(InputError, match="method of separation"):
        methods.sample(Task((2, 3), POINT.sum(1)), oracle.denoise, GENERATIONS["ode"])


def test_nfe(oracle):
    for method in (*METHODS.values(), *IMPUTATIONS.values()):
        method = method.replace(steps=3)
        calls = []

        def denoise(x, sigma, conditioning=None, calls=calls):
            calls.append(1)  # which condition it has does not matter here
            return oracle.denoise(x, sigma, conditioning and replace(conditioning, conditions={}))

        task = {"given": POINT, "stems": (0,)} if method in [m.replace(steps=3) for m in IMPUTATIONS.values()] else {
            "mixture": POINT.sum(1)}
        sampling.final_state(methods.sample(Task((2, 3), variance=VARIANCE, **task), denoise, method))
        assert len(calls) == method.nfe, method
    assert METHODS["dirac"].nfe == 300  # the paper's


def test_guided_with_a_given_stem_is_conditioned_on_the_whole_mixture(oracle):
    """The condition is the sum of all stems, with the given one; that one is returned unchanged."""
    seen = []

    def denoise(x, sigma, conditioning):
        seen.append(conditioning.given("mixture"))
        return oracle.denoise(x, sigma)

    y = POINT.sum(1)
    task = Task((len(POINT), 3), y, POINT, (1,))
    end = sampling.final_x(methods.sample(task, denoise, by_name("guided", steps=3)))
    assert len(seen) == 3 and all(torch.equal(one, y) for one in seen)
    assert torch.equal(end[:, 1], POINT[:, 1])


@pytest.mark.parametrize("name, settings", [("projdiff", {"churn": 3.0}), ("projdiff", {"sampler": "heun"}),
                                            ("dirac", {"weight": 2.0}), ("gaussian", {"constrained_stem": 1}),
                                            ("wiener", {"gradient_clip": 2.0}), ("mixture-constrained", {"c": 2.0})])
def test_settings_that_a_guidance_does_not_read_are_refused(oracle, name, settings):
    setting = next(iter(settings))
    with pytest.raises(InputError, match=f"does not use {setting}|no setting '{setting}' of this method"):
        run(oracle, by_name(name, **settings), mixture=POINT.sum(1))
