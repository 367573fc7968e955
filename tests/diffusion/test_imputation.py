import pytest
import torch

from msdm_lite.diffusion.imputation import Replacement
from msdm_lite.errors import InputError


def test_masks_that_do_not_fit():
    with pytest.raises(InputError, match="does not fit"):
        Replacement(torch.zeros(3, 2), torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"of bool, not torch\.float32"):
        Replacement(torch.zeros(3, 2), torch.ones(2))
