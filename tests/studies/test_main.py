import pytest

from msdm_lite.evaluation import records
from msdm_lite.studies import __main__ as main
from msdm_lite.studies import results
from msdm_lite.utils.paths import PACKAGE


def test_every_study_is_listed_and_every_record_is_known(capsys):
    modules = {path.stem for path in (PACKAGE / "studies").glob("*.py") if "\ndef main(" in path.read_text()}
    assert {study.module for study in main.STUDIES.values()} == modules - {"__main__"} and len(modules) > 8
    for name, study in main.STUDIES.items():
        assert name.replace("-", "_") == study.module
        assert all(records.exists(record) or record in results.COMMANDS for record in study.records)
    assert main.main(["--list"]) == 0
    assert all(name in capsys.readouterr().out for name in ["context"]) and "min" in main.table()


@pytest.mark.parametrize("name", main.STUDIES)
def test_a_study_says_its_options(name, capsys):
    with pytest.raises(SystemExit) as end:
        main.main([name, "--help"])
    assert end.value.code == 0 and "--out" in capsys.readouterr().out


def test_what_is_no_study_is_one_line(capsys):
    assert main.main(["domain"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no study 'domain'" in err and "domain-shift" in err
