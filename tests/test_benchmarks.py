"""Benchmarks are run by hand (`make bench`); here they are only held to what they import, name and offer."""

import ast
import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def unknown(path: Path, module) -> list[str]:
    """Names that a file takes from modules of the package and that are not there."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    local = {name.arg for name in ast.walk(tree) if isinstance(name, ast.arg)} | {
        name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in local:
            owner = getattr(module, node.value.id, None)
            if getattr(owner, "__name__", "").startswith("msdm_lite") and not hasattr(owner, node.attr):
                found.append(f"{node.value.id}.{node.attr}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_they_fit_the_package_of_today(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # what it imports is there
    assert unknown(FOLDER / f"{name}.py", module) == []
    assert callable(module.main)


def test_there_are_benchmarks_and_a_wrong_name_is_found(tmp_path):
    assert len(NAMES) >= 6
    file = tmp_path / "wrong.py"
    file.write_text("from msdm_lite.evaluation import metrics\n"
                    "def main(x):\n    return metrics.si_sdr, metrics.si_srd\n")
    spec = importlib.util.spec_from_file_location("wrong", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert unknown(file, module) == ["metrics.si_srd"]
