import pytest
import torch

import msdm_lite
from msdm_lite import separation
from msdm_lite.errors import InputError
from msdm_lite.generation import method_for


def test_what_a_model_has_learned_is_on_its_record(tiny, monkeypatch):
    given = {"bass": 0.1 * torch.randn(9000)}
    for record, stems, both in (({}, True, True), ({"recipe": {"shapes": [0.4, 0.3, 0.3, 0.0]}}, True, False),
                                ({"recipe": {"known_share": 0.5}}, False, False)):
        monkeypatch.setattr(tiny, "record", record)
        assert tiny.learned() and tiny.learned(mixture=True)
        assert tiny.learned(stems=True) is stems and tiny.learned(mixture=True, stems=True) is both
        assert method_for(tiny).guidance == ("inside" if stems else "prior")
        assert separation.method_for(tiny, given=True).guidance == ("inside" if both else "dirac")
        if not stems:
            with pytest.raises(InputError, match="not trained with stems"):
                msdm_lite.accompany(given, tiny, method="stems-known")
        if not both:
            with pytest.raises(InputError, match="both mixture and stems"):
                msdm_lite.separate(torch.randn(9000), tiny, "mixture-known", given=given)
