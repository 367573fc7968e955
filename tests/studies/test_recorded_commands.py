import pytest

from msdm_lite.evaluation import records
from msdm_lite.studies import recorded_commands
from msdm_lite.studies.recorded_commands import COMMANDS, LENGTHS, PENDING, other_settings


def test_records_name_the_commands_that_make_them():
    """Those that are pending have other settings, and nothing else: a record that was made anew leaves the list."""
    for name, command in COMMANDS.items():
        program, *options = f"{command} --out data/results/{name}.json".split(" --")
        recorded, *others = records.read(name)["command"].split(" --")
        different = {option.split()[0] for option in {*others} ^ {*options}}
        assert recorded == program and different == ({"churn"} if name in PENDING else set()), (
            f"{name} was made by another command")


def test_pending_records_say_with_which_settings_they_were_made():
    found = {name: other_settings(name) for name in COMMANDS if other_settings(name)}
    assert found == dict.fromkeys(PENDING, "churn 20")


@pytest.mark.parametrize("kept, says", [({"churn": 40.0, "steps": 150, "n": None}, ""),
                                        ({"churn": 20.0, "steps": 150}, "churn 20"),
                                        ({"churn": 12.5, "steps": 50}, "churn 12.5, steps 50"), ({}, "")])
def test_other_settings_are_read_from_the_record(monkeypatch, kept, says):
    monkeypatch.setattr(recorded_commands, "COMMANDS", {"one": "msdm-lite evaluate --steps 150 --churn 40"})
    monkeypatch.setattr(records, "read", lambda name: {"settings": kept})
    assert other_settings("one") == says and other_settings("without a command") == ""


def test_every_length_has_its_command():
    assert len(COMMANDS) > 100
    for seconds in LENGTHS:
        assert f"--seconds {seconds} " in COMMANDS[f"length-lite-{seconds}"]
