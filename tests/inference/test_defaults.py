from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion.methods import IMPUTATIONS, METHODS
from msdm_lite.errors import InputError
from msdm_lite.inference import defaults
from msdm_lite.models.config import preset
from msdm_lite.models.independent import IndependentModels
from msdm_lite.models.weights import build
from tests.models.test_independent import single


@pytest.fixture(scope="module")
def models(tiny):
    """A model of each kind, untrained: only what it can be conditioned on counts here."""
    torch.manual_seed(0)
    return {"joint": tiny, "guided": build(replace(preset("tiny"), task="guided")),
            "supervised": build(replace(preset("tiny"), task="separate")),
            "independent": IndependentModels([single("bass", 1), single("drums", 2)])}


@pytest.mark.parametrize("kind, given, name", [
    ("joint", False, "mixture-constrained"), ("joint", True, "mixture-constrained"), ("guided", False, "guided"),
    ("guided", True, "guided"), ("supervised", False, "mixture-constrained"), ("supervised", True, "dirac"),
    ("independent", False, "dirac"), ("independent", True, "dirac")])
def test_the_method_of_separation_that_suits_a_model(models, kind, given, name):
    assert defaults.default_separation(models[kind], given) == name
    assert defaults.separation_method(models[kind], given=given) == METHODS[name]


@pytest.mark.parametrize("kind, name", [("joint", "stems-given"), ("guided", "replacement"),
                                        ("independent", "replacement")])
def test_the_method_of_imputation_that_suits_a_model(models, kind, name):
    assert defaults.imputation_method(models[kind]) == IMPUTATIONS[name]


def test_a_method_by_name_has_the_settings_that_are_not_none(models):
    found = defaults.separation_method(models["joint"], "dirac", steps=3, churn=0.0, sigma_max=None, sampler="heun")
    assert found == replace(METHODS["dirac"], steps=3, churn=0.0, sampler="heun")
    found = defaults.imputation_method(models["joint"], "replacement", steps=None, corrections=4)
    assert found == replace(IMPUTATIONS["replacement"], corrections=4)


@pytest.mark.parametrize("kind, name, settings, says", [
    ("joint", "magic", {}, "no method 'magic'"), ("joint", "stems-given", {}, "no method 'stems-given'"),
    ("joint", "guided", {}, "guided is not for it"), ("independent", "mixture-constrained", {}, "try dirac or wiener"),
    ("supervised", "mixture-constrained", {"given": True}, "both mixture and stems"),
    ("joint", "dirac", {"magic": 1}, "no setting 'magic'"), ("joint", "dirac", {"steps": 0}, "no schedule"),
    ("joint", "dirac", {"churn": -1.0}, "churn"), ("joint", "wiener", {"c": 2.0}, "no setting 'c'")])
def test_refused_methods_of_separation(models, kind, name, settings, says):
    with pytest.raises(InputError, match=says):
        defaults.separation_method(models[kind], name, **settings)


@pytest.mark.parametrize("kind, name, settings, says", [
    ("joint", "dirac", {}, "no method 'dirac'"), ("independent", "stems-given", {}, "use replacement"),
    ("joint", None, {"steps": 0}, "no schedule"), ("joint", None, {"churn": 1.0}, "euler does"),
    ("joint", "replacement", {"weight": 2.0}, "no setting 'weight'")])
def test_refused_methods_of_imputation(models, kind, name, settings, says):
    with pytest.raises(InputError, match=says):
        defaults.imputation_method(models[kind], name, **settings)


def test_a_model_of_sketches_has_no_method(sketcher):
    for choose in (defaults.separation_method, defaults.imputation_method):
        with pytest.raises(InputError, match="no sound"):
            choose(sketcher)
