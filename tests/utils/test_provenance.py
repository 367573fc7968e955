import re
import shlex
import shutil
import subprocess

import pytest

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
    monkeypatch.setattr(provenance.shutil, "which", lambda name: None)
    assert provenance.commit() == "unknown"
    monkeypatch.undo()
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "lib" / "site-packages" / "msdm_lite")
    assert provenance.commit() == "unknown"


@pytest.mark.parametrize("value, word", [(5, "5"), (5.0, "5"), (0.1, "0.1"), (1e-4, "0.0001"), (1 / 3, repr(1 / 3)),
                                         (1e8, "1e+08"), (123456789.0, "123456789.0"), ("my songs", "my songs")])
def test_a_word_of_a_command_is_exact_and_short(value, word):
    assert provenance.command_word(value) == word and type(value)(word) == value


def test_words_that_a_shell_would_split_are_quoted():
    assert provenance.command_line("msdm-lite", data="my songs", sigma_max=0.5, stems=["bass", "it's"], n=None) == (
        """msdm-lite --data 'my songs' --sigma-max 0.5 --stems bass 'it'"'"'s'""")
    assert provenance.command_line("python", whole="", n=0) == "python --whole '' --n 0"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a package of two modules, in the place of ours."""
    if not shutil.which("git"):
        pytest.skip("no git here")
    package = tmp_path / "msdm_lite"
    package.mkdir()
    (package / "one.py").write_text("from msdm_lite import two\n")
    (package / "two.py").write_text("LEVEL = 1\n")
    (package / "three.py").write_text("LEVEL = 1\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(provenance.plugins, "_loaded", {})
    return package


def test_files_that_differ_from_the_commit_are_named(checkout):
    before = provenance.origin("msdm_lite.one")
    assert before["dirty"] == [] and re.fullmatch("[0-9a-f]{7,}", before["commit"])
    assert list(before["code"]["modules"]) == ["one", "two"] and before["code"]["of"] == "msdm_lite.one"
    for name in ("two", "three"):  # no result of `one` depends on `three`
        (checkout / f"{name}.py").write_text("LEVEL = 2\n")
    assert provenance.origin("msdm_lite.one")["dirty"] == ["msdm_lite/two.py"]
    assert provenance.code_changes(before["code"]) == ["two"]
    (checkout / "new.py").write_text("LEVEL = 3\n")
    (checkout / "two.py").write_text("from msdm_lite.new import LEVEL\n")
    assert provenance.origin("msdm_lite.one")["dirty"] == ["msdm_lite/new.py", "msdm_lite/two.py"]
    assert provenance.code_changes(before["code"]) == ["new", "two"]
    (checkout / "one.py").unlink()
    assert provenance.code_changes(before["code"]) is None


def test_further_modules_are_followed_too(checkout):
    found = provenance.origin("msdm_lite.one", ["msdm_lite.three"])
    assert found["code"]["also"] == ["msdm_lite.three"] and list(found["code"]["modules"]) == ["one", "three", "two"]
    (checkout / "three.py").write_text("LEVEL = 2\n")
    assert provenance.code_changes(found["code"]) == ["three"]
