"""What stands around the package: workflows, citation, templates. They name things that must be there."""

import os
import re
import subprocess
import sys
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
    owner, name = address.removeprefix("https://github.com/").split("/")
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "book/index.md")}
    for text in pages.values():
        assert f"git+{address}" in text
        assert set(re.findall(r"(?:google|github)\.com/(?:github/)?([\w.-]+/[\w.-]+)", text)) == {f"{owner}/{name}"}
    assert f"https://{owner}.github.io/{name}/" in pages["README.md"]
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls == {"Repository": address, "Book": f"https://{owner}.github.io/{name}/"}


def test_one_version_of_each_linter():
    makefile = dict(re.findall(r"^(RUFF|MUTMUT|MYPY) := (\S+)", (ROOT / "Makefile").read_text(), re.M))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["rev"] for hook in hooks if "ruff" in hook["repo"]] == [f"v{makefile['RUFF']}"]


def test_files_named_in_the_guides_are_there():
    for name in ("CONTRIBUTING.md", "SECURITY.md", "README.md", "data/weights/README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:msdm_lite|book|data|tests|benchmarks)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_the_wheel_carries_the_data_where_the_package_looks_for_them():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["msdm_lite", "data"] and wheel["sources"] == {"data": "msdm_lite/_data"}


def test_the_package_works_without_what_only_some_parts_need(tmp_path):
    """The extras are blocked in a process of its own; it separates, generates to a tempo, and says what is missing."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[><=\[]", word)[0] for some in extras.values() for word in some}
    modules = {"pyyaml": "yaml", "pyfluidsynth": "fluidsynth"}
    blocked = sorted({modules.get(name, name.replace("-", "_")) for name in names} - {"scipy"})  # torch may use scipy
    assert {"mido", "librosa", "torchaudio", "accelerate"} <= set(blocked)
    program = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it fails
import torch, msdm_lite
from msdm_lite.errors import InputError
model = msdm_lite.load("tiny", "cpu")
assert msdm_lite.separate(torch.randn(5000), model).shape == (4, 5000)
assert msdm_lite.generate("lite", 0.2, steps=1, sketcher="lite-sketch").shape == (1, 4, 4410)
from msdm_lite import corpus
try:
    corpus.songs("train", "band")[0].click([0.0])
except InputError as problem:
    assert "mido" in str(problem), problem
else:
    raise SystemExit("the click of a song needs mido")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"MSDM_LITE_CACHE": str(tmp_path)})  # clicks found before are kept there
    assert done.returncode == 0, done.stderr


def test_every_module_has_its_tests():
    """In the file of its own name, which `__init__` and `__main__` alone can do without."""
    modules = {path.stem for path in (ROOT / "msdm_lite").glob("*.py")} - {"__init__", "__main__"}
    files = {path.stem.removeprefix("test_"): path for path in (ROOT / "tests").glob("test_*.py")}
    assert sorted(modules - files.keys()) == []
    assert all(re.search(r"^def test_", files[name].read_text(encoding="utf-8"), re.M) for name in modules)


def test_every_module_names_its_chapter():
    """Where it is explained, or the card that it makes; but for those that serve all of them."""
    for path in (ROOT / "msdm_lite").glob("*.py"):
        if path.stem in ("__init__", "__main__", "errors", "folders", "resources", "terminal"):
            continue
        opening = path.read_text(encoding="utf-8").split('"""')[1]
        pages = re.findall(r"`((?:book|data)/[\w./-]+\.(?:ipynb|md))`", opening)
        assert pages and all((ROOT / page).exists() for page in pages), f"{path.name} names no chapter"
