import json
import math
from pathlib import Path

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.evaluation import records
from msdm_lite.evaluation.records import PartialResults, compute
from msdm_lite.utils import paths


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


# Files of data/results in their present names

RESULTS = sorted((paths.data_folder() / "results").glob("*.json"))
NAMED = {"method", "task", "setting"}  # the keys whose values are names that have changed; other strings are prose


@pytest.fixture(scope="module")
def stored():
    """Every file of data/results as it is written: name -> content."""
    assert len(RESULTS) >= 120
    return {path.stem: json.loads(path.read_text()) for path in RESULTS}


def leaves(value, key=""):
    """All that is neither an object nor a list, in order of appearance: each with the key that it stands under."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value


def objects(value):
    """All objects of a record, itself among them, in order of appearance."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


def numbers(record):
    """As text, which tells 1 from 1.0 and True, and holds for NaN."""
    return [repr(leaf) for _, leaf in leaves(record) if isinstance(leaf, int | float)]


def renamed_to_one(names):
    """Those of an object's keys that would have the present name of another one of them."""
    now = [records.RENAMED_KEYS.get(name, name) for name in names]
    return [name for name, new in zip(names, now, strict=True) if now.count(new) > 1]


def test_present_names_stay_as_they_are(stored):
    for name, record in stored.items():
        once = records.current(record)
        assert json.dumps(records.current(once)) == json.dumps(once), name  # as text: NaN is not equal to itself


def test_no_present_name_is_an_old_one():
    for table in (records.RENAMED_KEYS, records.RENAMED_VALUES, records.RENAMED_SETTINGS):
        assert not set(table) & set(table.values())
        assert len(set(table.values())) == len(table)


def old_names(record):
    """What of a record the tables would rename: keys, and values with the key that they stand under."""
    yield from (name for found in objects(record) for name in found if name in records.RENAMED_KEYS)
    for key, leaf in leaves(record):
        table = records.RENAMED_SETTINGS if key == "setting" else records.RENAMED_VALUES
        if isinstance(leaf, str) and leaf in table:
            yield key, leaf


def test_no_old_name_is_left(stored):
    assert {name: found for name, record in stored.items() if (found := list(old_names(records.current(record))))} == {}


def test_old_names_are_found_at_any_depth():
    old = next(iter(records.RENAMED_KEYS))
    record = {"a": [{old: 1, "setting": "low"}, [{"setting": ["high", "paint"], "level": "low"}]], "b": {"c": "paint"}}
    assert list(old_names(record)) == [old, ("setting", "low"), ("setting", "high"), ("c", "paint")]


def test_numbers_are_the_same_before_and_after(stored):
    assert sum(len(numbers(record)) for record in stored.values()) > 30_000
    for name, record in stored.items():
        assert numbers(records.current(record)) == numbers(record), name


def test_no_two_keys_of_an_object_become_one():
    """Neither by their new names, nor because a file has a key twice, of which `json.loads` drops one."""
    found = []

    def pairs(content):
        found.append([name for name, _ in content])
        return dict(content)

    for path in RESULTS:
        found.clear()
        record = json.loads(path.read_text(), object_pairs_hook=pairs)
        assert [clash for names in found if (clash := renamed_to_one(names))] == [], path.stem
        assert sorted(len(names) for names in found) == sorted(map(len, objects(records.current(record)))), path.stem


def test_keys_that_would_become_one_are_found():
    old, new = next(iter(records.RENAMED_KEYS.items()))
    assert renamed_to_one([old, "n", new]) == [old, new] and renamed_to_one([old, "n"]) == []
    assert len(records.current({old: 1, new: 2})) == 1  # which is why no file may have both


def test_only_values_that_are_names_are_renamed(stored):
    for name, record in stored.items():
        for (_, before), (key, after) in zip(leaves(record), leaves(records.current(record)), strict=True):
            assert before is after or key in NAMED, f"{name}: {key} was {before!r}, and reads {after!r}"


@pytest.mark.parametrize("record, reads", [
    ({"task": "paint"}, {"task": "decode"}),
    ({"settings": {"task": ["paint", "generate"]}}, {"settings": {"task": ["decode", "generate"]}}),
    ([{"method": "mixture-known"}, {"method": "stems-known"}],
     [{"method": "mixture-constrained"}, {"method": "stems-given"}]),
    ({"setting": "high"}, {"setting": "sigma_max"}),
    ({"setting": ["constrained", "churn"]}, {"setting": ["constrained_stem", "churn"]}),
    ({"rows": [{"setting": "low", "level": "low"}]}, {"rows": [{"setting": "sigma_min", "level": "low"}]})])
def test_a_value_that_is_an_old_name_is_renamed(record, reads):
    assert records.current(record) == reads


@pytest.mark.parametrize("text", ["paint on a canvas", "how models paint", "paint, then play", "Paint", "paint ",
                                  "repaint", "the mixture-known method", "high", "constrained", "--task paint",
                                  "data/results/distance-paint.json"])
def test_a_sentence_stays_as_it_is(text):
    record = {"what": text, "data": [text], "settings": {"command": text}}
    assert records.current(record) == record


def test_a_record_is_read_in_its_present_names_and_its_file_stays(tmp_path, monkeypatch):
    old, new = next(iter(records.RENAMED_KEYS.items()))
    monkeypatch.setattr("msdm_lite.utils.paths.data_folder", lambda: tmp_path)
    path = records.save({old: {"task": "paint"}, "arms": [{"setting": "high"}]}, tmp_path / "results" / "one.json")
    before = path.read_text()
    assert records.read("one") == {new: {"task": "decode"}, "arms": [{"setting": "sigma_max"}]}
    assert path.read_text() == before


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


@pytest.mark.parametrize("removed", [0, 1, 2, 3])
@pytest.mark.parametrize("why", ["done", "another measurement"])
def test_a_run_that_is_killed_while_it_removes_its_parts_can_be_given_again(tmp_path, monkeypatch, removed, why):
    out, unlink, left = tmp_path / "d.json", Path.unlink, [removed]

    def killed(path: Path, missing_ok: bool = False) -> None:
        if not left[0] and path.suffix != ".part":
            raise KeyboardInterrupt
        left[0] -= path.suffix != ".part"
        unlink(path, missing_ok=missing_ok)

    parts = PartialResults(out, {"n": 8})
    for name in ("bass", "drums", "guitar"):
        parts.keep(name, one([]))
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        parts.done() if why == "done" else PartialResults(out, {"n": 9})
    monkeypatch.undo()
    again, made = PartialResults(out, {"n": 9}), []
    assert torch.equal(again.keep("bass", one(made))["heard"], torch.tensor([True])) and len(made) == 1


def test_what_somebody_puts_beside_the_parts_stays(tmp_path):
    parts = PartialResults(tmp_path / "d.json", {"n": 8})
    parts.keep("bass", one([]))
    (parts.folder / "mine").mkdir()
    (parts.folder / "diary.txt").write_text("today")
    PartialResults(tmp_path / "d.json", {"n": 9}).done()
    assert sorted(path.name for path in parts.folder.iterdir()) == ["diary.txt", "mine"]


def test_a_scratch_file_of_a_killed_run_is_no_diary(tmp_path):
    (tmp_path / "d-parts").mkdir()
    (tmp_path / "d-parts" / "head.json.12-34.part").write_text("{")
    PartialResults(tmp_path / "d.json", {"n": 8}).done()
    assert not list(tmp_path.iterdir())


def test_a_part_that_fails_is_not_there(tmp_path):
    parts, made = PartialResults(tmp_path / "d.json", {}), []
    with pytest.raises(ZeroDivisionError):
        parts.keep("bass", lambda: {"x": torch.tensor(1 // 0)})
    parts.keep("bass", one(made))
    assert made and compute("bass", one(made))["heard"] and len(made) == 2


def test_parts_may_have_long_names_and_say_whether_they_are_there(tmp_path):
    """A name in another script takes nine bytes a letter in the name of a file, which has 255 at most."""
    parts = records.PartialResults(tmp_path / "r.json", {})
    names = ["ば" * 60 + end for end in ("1", "2")]
    assert [parts.keep(name, lambda name=name: name) for name in names] == names
    assert [parts.keep(name, lambda: None) for name in names] == names
    assert all(map(parts.has, names)) and not parts.has("ば" * 60)


def test_older_scores_of_songs_have_the_name_of_what_they_are():
    assert "published" not in records.read("songs-band-dirac") and "per_song" in records.read("songs-band-dirac")
