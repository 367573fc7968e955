"""The default method of a model for each task, and settings checked before anything long is computed.

Chapter: `book/07-separation.ipynb`.
"""

from typing import Any

from msdm_lite.diffusion import methods
from msdm_lite.diffusion.guidances import GUIDANCES, ClassifierFree
from msdm_lite.diffusion.methods import IMPUTATIONS, METHODS, OWN_GUIDANCE, Method
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel


def separation_method(model: StemModel, name: str | None = None, given: bool = False, **settings: Any) -> Method:
    """A method of separation by name, or the one that suits the model, with other settings where they are not None.

    `given`: whether some stems are given beside the mixture.

    Raises:
        InputError: an unknown name or setting, or a method that the model was not trained for.
    """
    model.require_sound()
    trained = model.trained_for(mixture=True, stems=given)
    if name is None and settings.get("guidance") is not None:
        name, method = "this guidance", OWN_GUIDANCE.replace(**settings)
    else:
        name = default_separation(model, given) if name is None else name
        method = methods.by_name(name, METHODS, **settings)
    if method.needs_conditioning and not trained:
        raise InputError(f"this model was not trained with {'both mixture and stems' if given else 'a mixture'} known: "
                         f"{name} is not for it; try dirac or wiener")
    if isinstance(method.guidance, ClassifierFree) and not model.takes_mixture:
        raise InputError("this model cannot be conditioned on the mixture: guided is not for it")
    method.check()  # before anything long is computed
    return method


def default_separation(model: StemModel, given: bool = False) -> str:
    """The name of the method of separation that suits a model; `given`: some stems are given beside the mixture."""
    if model.takes_mixture:
        return "guided"
    return "mixture-constrained" if model.trained_for(mixture=True, stems=given) else "dirac"


def imputation_method(model: StemModel, name: str | None = None, **settings: Any) -> Method:
    """A method of imputation by name, or the one that suits the model, with other settings where they are not None.

    Raises:
        InputError: an unknown name or setting, or a method that the model was not trained for.
    """
    model.require_sound()
    trained = model.trained_for(stems=True)
    if name is None:
        own = settings.get("guidance")  # an object, or a class by name; each says where the given stems are
        own = GUIDANCES.find(own) if isinstance(own, str) else own
        inside = trained if own is None else getattr(own, "inside", False)
        name = "stems-given" if inside else "replacement"
    method = methods.by_name(name, IMPUTATIONS, **settings)
    if method.needs_conditioning and not trained:
        raise InputError(f"this model was not trained with stems that are known: {name} is not for it; use replacement")
    method.check()  # before anything long is computed
    return method


def require_seed(seed: int) -> None:
    """Raises InputError for a seed that is not a whole number from 0 to 2^64 - 1, which torch takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise InputError(f"a seed is a whole number from 0 to 2^64 - 1, not {seed}")
