import json
import os

import pytest

from msdm_lite.errors import InputError
from msdm_lite.utils import manifest

FACTS = {"command": "msdm-lite separate song.wav --out o", "inputs": ["song.wav"], "seed": 3, "model": "tiny",
         "version": "1"}


def make(folder, **texts):
    """Files that a run has made: name -> text."""
    parts = {}
    for name, text in texts.items():
        (folder / f"{name}.part").write_text(text)
        parts[folder / name] = folder / f"{name}.part"
    entry = manifest.Entry(folder, FACTS)
    entry.begin(parts)
    for path, part in parts.items():
        part.replace(path)
    entry.finish()


def test_a_manifest_lists_what_was_made(tmp_path):
    make(tmp_path, bass="one", drums="two")
    run, = manifest.runs(tmp_path)
    assert {key: run[key] for key in FACTS} == FACTS
    assert run["outputs"] == {"bass": manifest.sha256(tmp_path / "bass"), "drums": manifest.sha256(tmp_path / "drums")}
    assert manifest.sha256(tmp_path / "bass") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    make(tmp_path, drums="three", piano="four")  # an older run keeps what was not replaced
    first, second = manifest.runs(tmp_path)
    assert list(first["outputs"]) == ["bass"] and list(second["outputs"]) == ["drums", "piano"]
    make(tmp_path, bass="five")
    assert [list(run["outputs"]) for run in manifest.runs(tmp_path)] == [["drums", "piano"], ["bass"]]


def test_what_was_made_may_be_written_over_and_nothing_else(tmp_path):
    make(tmp_path, bass="one")
    manifest.require_own(tmp_path, ["bass", "drums"])  # the one is ours, the other is not there
    (tmp_path / "drums").write_text("mine")
    with pytest.raises(InputError, match=r"drums is there already, and was not made by msdm-lite: .*--overwrite"):
        manifest.require_own(tmp_path, ["bass", "drums"])
    manifest.require_own(tmp_path, ["bass", "drums"], overwrite=True)
    (tmp_path / "bass").write_text("one, and a note of mine")
    with pytest.raises(InputError, match="bass has changed since it was made"):
        manifest.require_own(tmp_path, ["bass"])
    manifest.require_own(tmp_path, ["bass"], overwrite=True)
    manifest.require_own(tmp_path / "nowhere", ["bass"])


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_input_is_never_written_over(tmp_path, link):
    make(tmp_path, bass="one")
    link(tmp_path / "bass", tmp_path / "take 1")
    for source in (tmp_path / "bass", tmp_path / "take 1"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="bass is an input, and would be written over"):
                manifest.require_own(tmp_path, ["bass"], [tmp_path / "gone", source], overwrite)


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"outputs": {}}', '{"written by": "msdm-lite"}', "[" * 10**5,
                                  '{"written by": "msdm-lite", "runs": [3]}', "\udce9"])
def test_a_file_of_that_name_that_is_no_manifest_is_the_users(tmp_path, text):
    (tmp_path / manifest.NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert manifest.runs(tmp_path) is None
    with pytest.raises(InputError, match=r"msdm-lite\.json is there already"):
        manifest.require_own(tmp_path, ["bass"])


def test_a_run_that_is_killed_while_it_renames_leaves_no_file_that_is_not_known(tmp_path):
    make(tmp_path, bass="old", drums="old too")
    parts = {tmp_path / name: tmp_path / f"{name}.part" for name in ("bass", "drums")}
    for part in parts.values():
        part.write_text("new")
    manifest.Entry(tmp_path, FACTS).begin(parts)
    (tmp_path / "bass.part").replace(tmp_path / "bass")  # killed here
    manifest.require_own(tmp_path, ["bass", "drums"])
    (tmp_path / "drums").write_text("mine")
    with pytest.raises(InputError, match="drums has changed"):
        manifest.require_own(tmp_path, ["bass", "drums"])


def test_a_run_that_fails_leaves_the_manifest_as_it_was(tmp_path):
    (tmp_path / "a.part").write_text("x")
    for before in (None, "made"):
        if before:
            make(tmp_path, bass="one")
        text = (tmp_path / manifest.NAME).read_text() if before else None
        entry = manifest.Entry(tmp_path, FACTS)
        entry.begin({tmp_path / "a": tmp_path / "a.part"})
        assert "a" in json.loads((tmp_path / manifest.NAME).read_text())["runs"][-1]["outputs"]
        entry.undo()
        assert (tmp_path / manifest.NAME).exists() == bool(before)
        assert not before or (tmp_path / manifest.NAME).read_text() == text


@pytest.mark.parametrize("text, ours", [("my notes", False), ("[1]", False), ('{"a": 1}', False),
                                        ('{"wall_seconds": 3.0, "mean": 1}', True)])
def test_a_record_may_replace_a_record(tmp_path, text, ours):
    manifest.require_record(tmp_path / "gone.json")
    (tmp_path / "a.json").write_text(text)
    manifest.require_record(tmp_path / "a.json", overwrite=True)
    if ours:
        manifest.require_record(tmp_path / "a.json")
    else:
        with pytest.raises(InputError, match="is no record of msdm-lite"):
            manifest.require_record(tmp_path / "a.json")
