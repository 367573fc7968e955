"""What stands around the package: workflows, citation, templates. They name things that must be there."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import msdm_lite

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))


def runs(workflow: Path) -> list[str]:
    """The shell commands of a workflow."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_the_targets_that_people_call(workflow):
    commands = " ; ".join(runs(workflow))
    called = {word for line in re.findall(r"\bmake ([^;&\n]*)", commands) for word in line.split() if "=" not in word}
    assert called and called <= TARGETS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read_unless_they_say_so(workflow):
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {"contents": "read"}
    assert all(step["uses"].count("@") == 1 for job in content["jobs"].values() for step in job["steps"]
               if "uses" in step)


def test_all_supported_pythons_are_tested():
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_the_version_is_the_same_wherever_it_must_stand():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == msdm_lite.__version__
    assert f"## {msdm_lite.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_one_address():
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"] == address
    assert address in (ROOT / "book" / "how-to-cite.md").read_text(encoding="utf-8")


def test_files_named_in_the_guides_are_there():
    for name in ("CONTRIBUTING.md", "SECURITY.md", "README.md", "data/weights/README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:msdm_lite|book|data|tests|benchmarks)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_the_wheel_carries_the_data_where_the_package_looks_for_them():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["msdm_lite", "data"] and wheel["sources"] == {"data": "msdm_lite/_data"}
