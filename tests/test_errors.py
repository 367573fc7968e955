import pytest

from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import paths
from msdm_lite.utils.imports import library


def test_what_the_user_gave_is_told_from_what_the_machine_lacks():
    """Who catches the first catches both, as Python's own ValueError does."""
    with pytest.raises(InputError) as machine:
        library("nowhere")
    with pytest.raises(ValueError) as user:
        paths.data("nowhere")
    assert type(machine.value) is MachineError and type(user.value) is InputError
