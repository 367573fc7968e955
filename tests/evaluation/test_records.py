import json
import math
import re
import shlex
import shutil

import pytest

from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.utils import paths, provenance


def test_a_command_says_what_was_set_and_nothing_else():
    line = provenance.command_line("msdm-lite", "evaluate", "--whole", songs="my songs", seed=0, steps=None, given=(),
                            churn=5.0, c=0.75 * 2**0.5, constrained_stem=(0, 1))
    words = shlex.split(line)
    assert words[:5] == ["msdm-lite", "evaluate", "--whole", "--songs", "my songs"]
    assert "--steps" not in words and "--given" not in words
    assert words[words.index("--seed") + 1] == "0" and words[words.index("--churn") + 1] == "5"
    assert float(words[words.index("--c") + 1]) == 0.75 * 2**0.5  # to the last digit
    assert words[words.index("--constrained-stem") + 1 :] == ["0", "1"]


def test_no_commit_is_better_than_another_one_s(tmp_path, monkeypatch):
    """Without git, or installed somewhere inside another repository."""
    here = paths.PACKAGE.parent / ".git"
    if here.exists() and shutil.which("git"):
        assert re.fullmatch(r"[0-9a-f]{7,}", provenance.commit())
    monkeypatch.setattr(records.shutil, "which", lambda name: None)
    assert provenance.commit() == "unknown"
    monkeypatch.undo()
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "lib" / "site-packages" / "msdm_lite")
    assert provenance.commit() == "unknown"


def test_what_is_saved_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("msdm_lite.utils.paths.data_folder", lambda: tmp_path)
    records.save({"mean": 1.5, "clips": {"a": [math.nan]}}, tmp_path / "results" / "one.json")
    found = records.read("one")
    assert found["mean"] == 1.5 and math.isnan(found["clips"]["a"][0])
    with pytest.raises(InputError, match=r"two\.json is not among"):
        records.read("two")


def test_circumstances_name_the_weights(tiny):
    tiny.record, before = {"steps": 3, "minutes": 0.1, "commit": "abc", "songs": 7}, tiny.record
    try:
        found = records.circumstances(tiny, 0.0, tiny)
    finally:
        tiny.record = before
    assert found["model_record"] == found["sketch_record"] == {"steps": 3, "minutes": 0.1, "commit": "abc"}
    assert records.circumstances(None, 0.0)["model_record"] == {} and found["wall_seconds"] > 0
    assert (found["precision"], found["tolerance"]) == ("float32", records.TOLERANCE)
    other = records.circumstances(None, 0.0, tolerance=0.02, precision="float64")
    assert (other["precision"], other["tolerance"]) == ("float64", 0.02)
    assert json.dumps(found)


@pytest.mark.parametrize("tolerance, at, allows", [
    (0.1, "/a", 0.1), ("10 %", "/a", 0.2), ({"": 0.1, "share": 0.02}, "/a/share/0", 0.02),
    ({"": 0.1, "share": 0.02}, "/a/b", 0.1), ({"": "5 %", "a": 1.0, "share": "10%"}, "/a/share", 0.2),
    ({"": "5 %", "a": 1.0}, "/a/b/c", 1.0), ({"": "5 %"}, "", 0.1)])
def test_by_how_much_a_number_may_differ(tolerance, at, allows):
    assert records.allowed_difference(tolerance, at, -2.0) == pytest.approx(allows)
