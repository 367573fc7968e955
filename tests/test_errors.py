import pytest

from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils import paths
from msdm_lite.utils.imports import library


def test_errors_of_the_user_and_of_the_machine_differ():
    """Who catches the first catches both, as Python's own ValueError does."""
    with pytest.raises(InputError) as machine:
        library("nowhere")
    with pytest.raises(ValueError) as user:
        paths.data("nowhere")
    assert type(machine.value) is MachineError and type(user.value) is InputError
