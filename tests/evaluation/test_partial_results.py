import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.evaluation.records import PartialResults, compute


def one(made: list):
    """A part that notes that it is made."""
    def make():
        made.append(1)
        return {"x": torch.tensor([1.5, float("nan")]), "heard": torch.tensor([True])}
    return make


def test_a_part_is_made_once(tmp_path):
    out, made = tmp_path / "d.json", []
    found = PartialResults(out, {"n": 8}).keep("bass", one(made))
    again = PartialResults(out, {"n": 8})
    assert torch.equal(again.keep("bass", one(made))["heard"], found["heard"]) and len(made) == 1
    assert again.keep("drums", one(made))["x"][0] == 1.5 and len(made) == 2
    assert again.seconds > 0
    again.done()
    assert not list(tmp_path.iterdir())


def test_parts_of_another_measurement_are_no_good(tmp_path):
    out, made = tmp_path / "d.json", []
    PartialResults(out, {"n": 8}).keep("bass", one(made))
    PartialResults(out, {"n": 9}).keep("bass", one(made))
    assert len(made) == 2


def test_a_folder_of_that_name_that_is_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "d-parts").mkdir()
    (tmp_path / "d-parts" / "diary.txt").write_text("today")
    with pytest.raises(InputError, match="choose another file"):
        PartialResults(tmp_path / "d.json", {})
    assert (tmp_path / "d-parts" / "diary.txt").read_text() == "today"


def test_a_part_that_fails_is_not_there(tmp_path):
    parts, made = PartialResults(tmp_path / "d.json", {}), []
    with pytest.raises(ZeroDivisionError):
        parts.keep("bass", lambda: {"x": torch.tensor(1 // 0)})
    parts.keep("bass", one(made))
    assert made and compute("bass", one(made))["heard"] and len(made) == 2
