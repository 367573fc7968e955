"""Packages are fetched by the system's own tools; here these are scripts that behave as the test wants."""

import os
from types import SimpleNamespace

import pytest

from msdm_lite.data import debian
from msdm_lite.errors import MachineError
from msdm_lite.utils import paths


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """tools(name, script): puts a program of that name on a path of its own."""
    places = tmp_path / "bin"
    places.mkdir()
    monkeypatch.setenv("PATH", f"{places}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))

    def put(name, script):
        (places / name).write_text(f"#!/bin/sh\n{script}\n")
        (places / name).chmod(0o755)

    put("apt-get", "touch $2_1.0.deb")
    put("dpkg-deb", 'mkdir -p "$3/usr/share" && echo music > "$3/usr/share/song"')
    return put


def test_a_package_is_unpacked_once(tools):
    folder = debian.fetch("songs")
    assert folder == paths.cache("debian", "songs") and (folder / "usr/share/song").read_text() == "music\n"
    tools("apt-get", "exit 1")  # nobody asks again
    assert debian.fetch("songs") == folder


@pytest.mark.parametrize("name, script, says", [
    ("apt-get", "echo 'E: Unable to locate package songs' >&2; exit 100", "cannot download songs .E: Unable to locate"),
    ("apt-get", "exit 0", "cannot download songs .no reason given.; `apt-get update` may help"),
    ("dpkg-deb", "echo 'not a Debian format archive' >&2; exit 2", "cannot be unpacked .not a Debian format archive")])
def test_what_the_tools_cannot_do_is_said_and_leaves_nothing(tools, name, script, says):
    tools(name, script)
    with pytest.raises(MachineError, match=says):
        debian.fetch("songs")
    assert not list(paths.cache("debian").iterdir())


def test_without_the_tools_it_says_where_to_put_it(tools, monkeypatch):
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match=r"this machine has no apt-get; unpack it by hand into .*songs"):
        debian.fetch("songs")


def test_a_package_is_unpacked_once_whoever_is_quicker(tmp_path, monkeypatch):
    """Two processes fetch it: the slower one takes what the other one put there. What cannot be unpacked is said."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    fails = []

    def run(words, cwd=None, **_):
        if words[0] == "apt-get":
            (debian.Path(cwd) / "some.deb").touch()
        elif fails:
            return SimpleNamespace(returncode=2, stderr="broken pipe", stdout="")
        else:
            debian.Path(words[3]).mkdir()
            (debian.Path(words[3]) / "mine").touch()
            (paths.cache("debian", "some") / "theirs").mkdir(parents=True)  # meanwhile, by the other
        return SimpleNamespace(returncode=0, stderr="", stdout="")

    monkeypatch.setattr(debian.subprocess, "run", run)
    assert [file.name for file in debian.fetch("some").iterdir()] == ["theirs"]
    fails.append(True)
    with pytest.raises(MachineError, match=r"cannot be unpacked \(broken pipe\)"):
        debian.fetch("other")
