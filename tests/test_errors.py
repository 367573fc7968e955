import pytest

from msdm_lite.errors import InputError, MachineError, shown
from msdm_lite.utils import paths
from msdm_lite.utils.imports import library


def test_errors_of_the_user_and_of_the_machine_differ():
    """Who catches the first catches both, as Python's own ValueError does."""
    with pytest.raises(InputError) as machine:
        library("nowhere")
    with pytest.raises(ValueError) as user:
        paths.data("nowhere")
    assert type(machine.value) is MachineError and type(user.value) is InputError


def test_names_of_any_bytes_are_shown_escaped():
    """A name in Latin-1 on a system of UTF-8; and half of a surrogate pair."""
    assert str(InputError("caf\udce9.wav: no such file")) == r"caf\xe9.wav: no such file"
    assert shown("é \udce9 \ud800").isprintable() and shown("café") == "café"
    assert str(InputError()) == "" and str(MachineError("a", "b")) == "('a', 'b')"
