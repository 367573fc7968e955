import os
from pathlib import Path

import pytest

from msdm_lite.errors import InputError
from msdm_lite.utils import files


def test_a_folder_that_proves_unwritable_is_taken_away_again(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()

    def refuse(**where):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(InputError, match="File name too long"):  # refused halfway: new was made
        files.writable_folder(tmp_path / "new" / ("x" * 300))
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    for folder in (tmp_path / "old", tmp_path / "old" / "a" / "b"):
        with pytest.raises(InputError, match=r"cannot be written to .Permission denied"):
            files.writable_folder(folder)
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["old"]


def test_a_writable_folder_is_left_empty(tmp_path):
    assert files.writable_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert not list((tmp_path / "a" / "b").iterdir())
    assert files.writable_folder(tmp_path / "a") == tmp_path / "a" and (tmp_path / "a" / "b").is_dir()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"is a file, not a folder|cannot be written to .Not a directory"):
            files.writable_folder(folder)
    with pytest.raises(InputError, match="is a folder, and should be a file"):
        files.writable_file(tmp_path)
    for path in (tmp_path / "a.json", tmp_path / "new" / "a.json"):
        assert files.writable_file(path) == path and not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_one_run_at_a_time_and_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), files.claimed(tmp_path / "a" / "b") as folder:
        assert folder.is_dir()
        with pytest.raises(InputError, match="another run is writing"), files.claimed(folder):
            pass
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with files.claimed(tmp_path / "a") as folder:  # free again
        (folder / "made").touch()
    assert (tmp_path / "a" / "made").exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append("synced") or sync(number))
    monkeypatch.setattr(Path, "replace", lambda self, target: done.append("named") or replace(self, target))
    with files.written_whole(tmp_path / "a.txt") as scratch:
        scratch.write_text("all of it")
        assert files.scratch_files(tmp_path / "a.txt") == [scratch]
    assert done == ["synced", "named"] and (tmp_path / "a.txt").read_text() == "all of it"
    assert files.scratch_files(tmp_path / "a.txt") == []
