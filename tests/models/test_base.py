import pytest
import torch

import msdm_lite
from msdm_lite.diffusion.guidances import Conditioned, Dirac, Prior
from msdm_lite.errors import InputError
from msdm_lite.inference import defaults
from msdm_lite.inference.defaults import imputation_method
from msdm_lite.models.base import StemModel


def test_the_record_has_the_conditioning_of_training(tiny, monkeypatch):
    assert isinstance(tiny, StemModel)
    given = {"bass": 0.1 * torch.randn(9000)}
    for record, stems, both in (({}, True, True), ({"recipe": {"shapes": [0.4, 0.3, 0.3, 0.0]}}, True, False),
                                ({"recipe": {"known_share": 0.5}}, False, False)):
        monkeypatch.setattr(tiny, "record", record)
        assert tiny.trained_for() and tiny.trained_for(mixture=True)
        assert tiny.trained_for(stems=True) is stems and tiny.trained_for(mixture=True, stems=True) is both
        assert imputation_method(tiny).guidance == (Conditioned() if stems else Prior())
        assert defaults.separation_method(tiny, given=True).guidance == (Conditioned() if both else Dirac())
        if not stems:
            with pytest.raises(InputError, match="not trained with stems"):
                msdm_lite.accompany(given, tiny, method="stems-given")
        if not both:
            with pytest.raises(InputError, match="both mixture and stems"):
                msdm_lite.separate(torch.randn(9000), tiny, "mixture-constrained", given=given)
