import pytest

from msdm_lite.errors import InputError
from msdm_lite.utils import fingerprint

SOURCE = '''"""A module."""
import math

SCALE = 2.0


def area(radius, half=False):
    """The area of a circle."""
    # the half of it, if asked
    square = radius ** 2
    parts = [part * SCALE for part in (square, 1)]

    def inner():
        return square + parts[0]

    return math.pi * inner() / (2 if half else 1)
'''


@pytest.mark.parametrize("old, new", [
    ('"""A module."""', '"""Another."""'), ('    """The area of a circle."""\n', ""), ("# the half", "# one half"),
    ("square", "quadrat"), ("part * SCALE for part", "bit * SCALE for bit"), ("inner", "nested"),
    ("    return math.pi * inner()", "\n    return (math.pi\n        * inner())")])
def test_what_does_not_count(old, new):
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE and fingerprint.hash_of(changed) == fingerprint.hash_of(SOURCE)


@pytest.mark.parametrize("old, new", [
    ("SCALE = 2.0", "SCALE = 2.5"), ("SCALE = 2.0", "SCALE = 2"), ("radius ** 2", "radius ** 3"),
    ("half=False", "half=True"), ("square + parts", "parts[1] + parts"), ("radius", "r"),
    ("SCALE", "FACTOR"), ("def area", "def surface")])
def test_what_counts(old, new):
    assert fingerprint.hash_of(SOURCE.replace(old, new)) != fingerprint.hash_of(SOURCE)


@pytest.mark.parametrize("one, other, same", [
    ("def f(x):\n a = x\n b = a\n return a", "def f(x):\n b = x\n a = b\n return b", True),  # names are exchanged
    ("def f(x):\n a = x\n b = a\n return a", "def f(x):\n a = x\n b = a\n return b", False),
    ("def f():\n global a\n a = 1", "def f():\n global b\n b = 1", False),
    ("def f():\n a = 0\n def g():\n  nonlocal a\n  a += 1\n g()\n return a",
     "def f():\n n = 0\n def g():\n  nonlocal n\n  n += 1\n g()\n return n", True),
    ("def f(x):\n return [a for a in x]", "def f(x):\n return {a for a in x}", False),
    ("class A:\n a = 1", "class A:\n b = 1", False)])
def test_names_within_functions(one, other, same):
    assert (fingerprint.hash_of(one) == fingerprint.hash_of(other)) is same


@pytest.fixture
def chain(tmp_path):
    """Three files, each importing the next, the second within a function; and one that only type checkers import."""
    (tmp_path / "study.py").write_text("from typing import TYPE_CHECKING\nimport middle\n"
                                       "if TYPE_CHECKING:\n    import hints\n")
    (tmp_path / "middle.py").write_text("def f():\n    from last import LEVEL\n    return LEVEL\n")
    (tmp_path / "last.py").write_text("LEVEL = 1\n")
    (tmp_path / "hints.py").write_text("X = 1\n")
    return tmp_path


def test_a_change_two_imports_away_is_seen(chain):
    def now():
        return {name.rsplit("/")[-1]: found for name, found in fingerprint.modules(str(chain / "study.py")).items()}

    before = now()
    assert set(before) == {"study.py", "middle.py", "last.py"}
    (chain / "last.py").write_text('"""Levels."""\nLEVEL = 1  # of noise\n')
    assert now() == before
    (chain / "last.py").write_text("LEVEL = 2\n")
    assert {name for name, found in now().items() if found != before[name]} == {"last.py"}


def test_separation_depends_on_guidance_and_the_oracle_on_no_network():
    separation = fingerprint.modules("msdm_lite.evaluation.separation_quality")
    oracle = fingerprint.modules("msdm_lite.studies.oracle_convergence")
    assert {"diffusion.guidance", "inference.separation", "models.joint", "models.unet2d"} <= set(separation)
    assert "diffusion.guidance" in oracle and not {name for name in oracle if name.startswith("models.")}
    assert not {"evaluation.records", "utils.provenance", "training.loop"} & set(separation)
    assert "models.weights" in fingerprint.modules("benchmarks/quality.py")  # by msdm_lite.load


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no module msdm_lite\.nothing"):
        fingerprint.modules("msdm_lite.nothing")
    (tmp_path / "broken.py").write_text("def")
    with pytest.raises(InputError, match=r"broken\.py is not valid Python \(line 1\)"):
        fingerprint.modules(str(tmp_path / "broken.py"))
