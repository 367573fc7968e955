import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.imputation import Replacement


def test_masks_that_do_not_fit():
    with pytest.raises(InputError, match="does not fit"):
        Replacement(torch.zeros(3, 2), torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="True or False"):
        Replacement(torch.zeros(3, 2), torch.ones(2))
