import sys

import pytest

from msdm_lite.errors import InputError
from msdm_lite.utils import plugins


def test_a_module_is_imported_by_name_or_file(tmp_path, monkeypatch):
    (tmp_path / "my_idea.py").write_text("FOUND = 1\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    plugins.load("my_idea")
    assert sys.modules.pop("my_idea").FOUND == 1
    monkeypatch.chdir("/")
    plugins.load(str(tmp_path / "my_idea.py"))
    assert sys.modules.pop("my_idea").FOUND == 1 and sys.path == before


@pytest.mark.parametrize("text, says", [("1 / 0", "ZeroDivisionError"), ("import nothing_at_all", "ModuleNotFound"),
                                        ("def", "SyntaxError")])
def test_what_goes_wrong_in_it_is_one_line(tmp_path, text, says):
    (tmp_path / "broken_idea.py").write_text(text)
    with pytest.raises(InputError, match=rf"broken_idea\.py cannot be imported \({says}"):
        plugins.load(str(tmp_path / "broken_idea.py"))


def test_there_is_no_such_module(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        plugins.load(str(tmp_path / "none.py"))
    with pytest.raises(InputError, match="no_such_idea cannot be imported"):
        plugins.load("no_such_idea")


def test_installed_packages_are_found_by_their_entry_point(monkeypatch):
    class Point:
        name, value = "idea", "idea.module"

        def load(self):
            raise ImportError("gone")

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()] if group == "msdm_lite" else [])
    with pytest.raises(InputError, match=r"the plugin idea \(idea.module\) cannot be imported \(ImportError: gone\)"):
        plugins.load_installed()
