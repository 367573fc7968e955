from msdm_lite.evaluation import records
from msdm_lite.studies.recorded_commands import COMMANDS, LENGTHS


def test_records_name_the_commands_that_make_them():
    for name, command in COMMANDS.items():
        program, *options = f"{command} --out data/results/{name}.json".split(" --")
        recorded, *others = records.read(name)["command"].split(" --")
        assert (recorded, sorted(others)) == (program, sorted(options)), f"{name} was made by another command"


def test_every_length_has_its_command():
    assert len(COMMANDS) > 100
    for seconds in LENGTHS:
        assert f"--seconds {seconds} " in COMMANDS[f"length-lite-{seconds}"]
