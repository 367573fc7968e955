import json

import pytest

from msdm_lite.cli.main import main
from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.models import weights
from msdm_lite.studies import results
from msdm_lite.studies.recorded_commands import PENDING
from msdm_lite.utils import files, fingerprint, paths
from msdm_lite.utils.paths import data_folder


def test_every_result_with_a_command_is_on_record_and_of_the_models_that_ship():
    """But for those that are to be made anew."""
    wanted = dict.fromkeys(results.COMMANDS, "up to date") | dict.fromkeys(PENDING, "stale")
    assert {name: results.state(name) for name in results.COMMANDS} == wanted


def test_a_record_is_made_again_by_its_command_or_is_history():
    """What the list of commands does not have, and whose model does not ship, says so itself."""
    names = [path.stem for path in (data_folder() / "results").glob("*.json")]
    assert len(names) > 100
    for name in names:
        found = records.read(name)
        if name not in results.COMMANDS and found.get("model") not in (None, *weights.shipped()):
            assert found["history"] is True, name


# Kinds of numbers that are never below zero, by how their names begin. One that may differ by its own size says nothing
POSITIVE = ("fad", "mismatched", "limit", "halves", "ratio", "copies", "diversity", "audible", "sounding", "heard",
            "played", "free_", "known_", "stems_", "loss")


@pytest.mark.parametrize("name", results.COMMANDS)
def test_a_record_says_what_it_takes_to_check_it(name):
    record = records.read(name)
    assert isinstance(record.get("seed", record.get("settings", {}).get("seed")), int)
    assert all(record[key] for key in ("device", "processor", "precision", "commit", "command"))
    assert record["wall_seconds"] > 0
    tolerance, found = record["tolerance"], dict(results.numbers(record))
    for at, number in found.items():
        kind = next(part for part in reversed(at.split("/")) if not part.isdigit())
        if kind.startswith(POSITIVE) and number:
            assert 0 < 2 * records.allowed_difference(tolerance, at, number) < number, at


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with one cheap result, made by a script that writes what the test wants."""
    real = data_folder()
    script = tmp_path / "script.py"
    script.write_text("import sys, json\nfrom pathlib import Path\n"
                      "Path(sys.argv[-1]).write_text(Path(__file__).with_name('next.json').read_text())\n")
    monkeypatch.setattr("msdm_lite.utils.paths.data_folder", lambda: tmp_path)
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(results, "COMMANDS", {"one": f"python {script}"})
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "lite.safetensors").symlink_to(real / "weights" / "lite.safetensors")
    (tmp_path / "next.json").write_text(json.dumps({"mean": 1.0, "wall_seconds": 2, "clips": {"a": [1, float("nan")]}}))
    return tmp_path


def test_missing_ones_are_made_and_kept(folder, capsys):
    assert results.state("one") == "missing"
    assert main(["results"]) == 0
    assert "one: up to date" in capsys.readouterr().out
    assert records.read("one")["command"].endswith("--out data/results/one.json")
    (folder / "next.json").unlink()  # nothing is run for what is up to date
    assert results.make() == []
    with pytest.raises(InputError, match="one: "):
        results.make(everything=True)
    assert records.read("one")["mean"] == 1.0  # what was there is still there
    with pytest.raises(InputError, match="there is no result 'two'"):
        results.make(["two"])
    assert not list((folder / "cache").rglob("*.json"))


def test_what_a_stopped_command_has_written_is_there_when_it_is_called_again(folder, monkeypatch):
    """As an ablation: an arm a call, and an error until there are two."""
    (folder / "arms.py").write_text("import json, pathlib, sys\nout = pathlib.Path(sys.argv[-1])\n"
                                    "arms = json.loads(out.read_text())['arms'] + 1 if out.exists() else 1\n"
                                    "out.write_text(json.dumps({'arms': arms}))\nsys.exit(arms < 2)\n")
    monkeypatch.setattr(results, "COMMANDS", {"arms": f"python {folder / 'arms.py'}"})
    with pytest.raises(InputError, match="arms: "):
        results.make()
    assert results.state("arms") == "missing"
    results.make()
    assert records.read("arms")["arms"] == 2


def test_two_runs_do_not_make_one_result_at_a_time(folder):
    with files.claimed(paths.cache("results", "one")), pytest.raises(InputError, match=r"another run .*one\.json"):
        results.make()
    assert not records.exists("one")
    results.make()
    assert records.read("one")["mean"] == 1.0


def test_other_weights_make_a_result_stale(folder):
    results.make()
    path = results.place("one")
    record = json.loads(path.read_text()) | {"model": "lite", "model_record": {"steps": -1}}
    path.write_text(json.dumps(record))
    assert results.state("one") == "stale"


def test_other_settings_make_a_result_stale_and_are_not_drawn(folder, monkeypatch):
    results.make()
    monkeypatch.setattr(results, "other_settings", lambda name: "churn 20")
    assert results.state("one") == "stale"
    with pytest.raises(InputError, match="no result on record took less"):
        results.check()
    assert results.check(["one"]) == {"one": []}  # whoever names it may compare it


@pytest.mark.parametrize("kept, state", [(None, "stale"), ({"steps": -1}, "stale"), ("as it is", "up to date")])
def test_another_sketcher_makes_a_result_stale(folder, kept, state):
    results.make()
    path = results.place("one")
    now = {"steps": weights.load("lite", "cpu").record["steps"]}
    more = {} if kept is None else {"sketch_record": now if kept == "as it is" else kept}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"sketch": "lite"}} | more))
    assert results.state("one") == state


def test_a_check_finds_what_differs(folder, capsys):
    results.make()
    assert main(["results", "--check"]) == 0
    assert "one: as recorded" in capsys.readouterr().out
    again = {"mean": 1.05, "wall_seconds": 900, "clips": {"a": [1.5, float("nan")]}}
    (folder / "next.json").write_text(json.dumps(again))
    assert main(["results", "--check"]) == 2
    said = capsys.readouterr()
    assert "/clips/a/0: 1 on record, 1.5 now" in said.out and "/mean" not in said.out
    assert said.err.strip() == "msdm-lite: not as recorded: one"
    path = results.place("one")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": 9999}))
    with pytest.raises(InputError, match="no result on record took less"):
        results.check()


@pytest.mark.parametrize("after, says", [
    ({"a": 1.0, "b": "x"}, ""), ({"a": 1.04, "b": "x"}, ""), ({"a": 1.06, "b": "x"}, "/a: 1.0 on record, 1.06 now"),
    ({"a": 1.0, "b": "y"}, "/b: 'x' on record, 'y' now"), ({"b": "x"}, "/a is in one of them only"),
    ({"a": float("nan"), "b": "x"}, "/a: 1.0 on record, nan now")])
def test_differences(after, says):
    assert "; ".join(results.differences({"a": 1.0, "b": "x", "tolerance": 0.05}, after | {"tolerance": 0.05})) == says


def test_what_took_a_gpu_seconds_is_not_checked_without_one(folder, monkeypatch):
    (folder / "results").mkdir()
    quick = {"mean": 1.0, "wall_seconds": 2, "device": "cuda"}
    (folder / "results" / "one.json").write_text(json.dumps(quick))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no result on record took less"):
        results.check()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    (folder / "next.json").write_text(json.dumps(quick))
    assert results.check() == {"one": []}


CODE = {"of": "msdm_lite.diffusion.noise", "modules": fingerprint.modules("msdm_lite.diffusion.noise")}


def test_named_results_are_stamped_if_they_are_as_recorded(folder, monkeypatch, capsys):
    monkeypatch.setattr(results, "COMMANDS", results.COMMANDS | {"two": results.COMMANDS["one"]})
    results.make()
    for name, mean in (("one", 1.0), ("two", 3.0)):
        path = results.place(name)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"mean": mean, "commit": "old"}))
    again = {"mean": 1.05, "wall_seconds": 3, "clips": {"a": [1, float("nan")]}, "commit": "new", "code": CODE}
    (folder / "next.json").write_text(json.dumps(again))
    assert results.code_notice("one") == results.code_notice("two") == "code unknown"
    assert main(["results", "--check", "--seed", "0"]) == 2  # those that are drawn are left alone
    assert results.code_notice("one") == "code unknown" and records.read("one")["commit"] == "old"
    assert main(["results", "one", "two", "--check"]) == 2
    said = capsys.readouterr()
    assert "one: as recorded, and stamped" in said.out and "two: /mean: 3.0 on record, 1.05 now" in said.out
    found, other = records.read("one"), records.read("two")
    assert (found["mean"], found["wall_seconds"], found["commit"], found["code"]) == (1.0, 2, "new", CODE)
    assert len(found["checked"]) == 10 and other["commit"] == "old" and "code" not in other
    assert results.code_notice("one") == "" and results.code_notice("two") == "code unknown"
    with pytest.raises(InputError, match="no result 'three'"):
        results.check(["three"])


def test_other_code_is_a_notice_and_nothing_is_run(folder, capsys):
    results.make()
    older = CODE | {"modules": CODE["modules"] | {"diffusion.noise": "00000000"}}
    path = results.place("one")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": older}))
    (folder / "next.json").unlink()
    assert main(["results"]) == 0
    assert capsys.readouterr().out == (
        "one: up to date; code changed (diffusion.noise): `msdm-lite results --check one` compares and stamps\n")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": CODE}))
    assert results.overview() == ["one: up to date"]
