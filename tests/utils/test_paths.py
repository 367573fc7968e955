import pytest

from msdm_lite.cli.main import main
from msdm_lite.errors import MachineError
from msdm_lite.utils import paths
from msdm_lite.utils.files import written_whole


def test_files_are_whole_or_not_there(tmp_path):
    target = tmp_path / "new" / "song.npy"
    with written_whole(target) as scratch:
        scratch.write_bytes(b"all of it")
        assert not target.exists()
    for raised, expected in ((OSError(28, "No space left on device"), MachineError),
                             (PermissionError(13, "no"), PermissionError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(expected), written_whole(target) as scratch:
            scratch.write_bytes(b"half")
            raise raised
        assert target.read_bytes() == b"all of it" and list(target.parent.iterdir()) == [target]
    with written_whole(tmp_path / "a.json") as one, written_whole(tmp_path / "a.jsonl") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a.json").read_text() == "1" and (tmp_path / "a.jsonl").read_text() == "2"


def test_what_ships_with_an_installation_is_not_written_over(tmp_path, monkeypatch, capsys):
    assert paths.sources() == paths.data_folder()  # of a checkout it is
    (tmp_path / "_data").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    for words in (["data", "compose"], ["data", "clips"], ["data", "card"], ["models", "--card"]):
        assert main(words) == 2 and "--out" in capsys.readouterr().err
    assert not list((tmp_path / "_data").iterdir())


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.expanded("~/x.wav") == tmp_path / "x.wav" and paths.expanded("a/~b") == paths.Path("a/~b")
    assert paths.expanded("~nobody-of-this-name/x") == paths.Path("~nobody-of-this-name/x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~x").touch()
    assert paths.expanded("~x") == paths.Path("~x")
