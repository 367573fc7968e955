import math
import os.path

import pytest

from msdm_lite.errors import MachineError
from msdm_lite.utils.imports import library, missing


def test_a_library_that_is_installed_is_the_module_itself():
    assert library("math") is math and library("os.path") is os.path


@pytest.mark.parametrize("name, package, says", [
    ("nowhere", None, "this needs nowhere: pip install nowhere"),
    ("nowhere.part", None, "this needs nowhere: pip install nowhere"),
    ("nowhere.part", "its-package", "this needs its-package: pip install its-package"),
    ("math.part", None, "this needs math: pip install math")])
def test_a_library_that_is_missing_is_named_with_what_to_install(name, package, says):
    with pytest.raises(MachineError) as caught:
        library(name, package)
    assert str(caught.value) == says and caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("content, says", [
    ("raise ImportError('undefined symbol')", "undefined symbol"), ("import nowhere", "No module named 'nowhere'")])
def test_a_broken_library_is_not_called_missing(tmp_path, monkeypatch, content, says):
    """Also where it is another library that is missing: to install the first again would not help."""
    (tmp_path / "broken_library.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MachineError) as caught:
        library("broken_library", "its-package")
    assert str(caught.value) == f"broken_library is installed, and cannot be imported: {says}"


@pytest.mark.parametrize("name, package", [("PIL", "pillow"), ("IPython.display", "IPython"), ("jinja2", "jinja2")])
def test_the_package_that_has_what_is_missing(name, package):
    assert missing(ImportError(name=name)) == package
