import json
import sys

import pytest

from msdm_lite.data import example_clips
from msdm_lite.evaluation import records
from msdm_lite.studies import __main__ as main
from msdm_lite.studies import results, runner
from msdm_lite.utils import plugins
from msdm_lite.utils.paths import PACKAGE


def test_every_study_is_listed_and_every_record_is_known(capsys):
    assert main.main(["--list"]) == 0
    printed = capsys.readouterr().out
    modules = {path.stem for path in (PACKAGE / "studies").glob("*.py") if "\n@study(" in path.read_text()}
    assert {name.replace("-", "_") for name in runner.BUILT_IN} == modules and len(modules) > 8
    for name in runner.BUILT_IN:
        study = runner.STUDIES[name]
        assert study.module == runner.module_of(name) and study.measures in printed
        assert study.records and all(records.exists(each) or each in results.COMMANDS for each in study.records)
    assert "min" in printed


def test_a_study_of_a_user_is_run_from_its_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plugins, "_loaded", {})
    (tmp_path / "lengths.py").write_text(OWN)
    line = ["--import", str(tmp_path / "lengths.py"), "lengths", "--out", str(tmp_path / "found.json"), "--clips", "2"]
    try:
        assert main.main(line) == 0
        found = json.loads((tmp_path / "found.json").read_text())
        assert found["samples"] == [example_clips.clip(name).shape[1] for name in ("band_00", "band_01")]
        assert (found["what"], found["seed"]) == ("How long the clips are.", 0)
        assert found["command"].split()[3:] == [*line[:3], "--clips", "2", "--out", line[4]]
        assert {"data.example_clips", found["code"]["of"]} <= set(found["code"]["modules"])
        assert main.main(["--list"]) == 0 and "How long the clips are." in capsys.readouterr().out
    finally:
        runner.STUDIES.pop("lengths", None)
        sys.modules.pop("lengths", None)


OWN = '''from msdm_lite.data import example_clips
from msdm_lite.studies.runner import Run, study


@study("lengths")
def main(run: Run, clips: int = 24) -> dict:
    """How long the clips are."""
    names = [entry["name"] for entry in example_clips.clips("band")][:clips]
    return {"samples": [run.keep(name, lambda name=name: example_clips.clip(name).shape[1]) for name in names]}
'''


@pytest.mark.parametrize("name", runner.BUILT_IN)
def test_a_study_says_its_options(name, capsys):
    with pytest.raises(SystemExit) as end:
        main.main([name, "--help"])
    assert end.value.code == 0 and "--out" in capsys.readouterr().out


def test_what_is_no_study_is_one_line(capsys):
    assert main.main(["domain"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no study 'domain'" in err and "domain-shift" in err
