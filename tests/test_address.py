"""The address of the repository: one setting, empty until it is known, and no page that names another meanwhile.

Each test holds whether the setting is empty or not; `test_it_is_written_and_taken_out_again` runs them for both.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("address", ROOT / ".ci" / "address.py")
address = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(address)
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
OURS = address.current(ROOT)
# Those of others that the pages and tools name
OTHERS = {"gladia-research-group/multi-source-diffusion-models", "pre-commit/pre-commit-hooks", "kynan/nbstripout",
          "astral-sh/ruff-pre-commit", "ethman/slakh-utils"}
SITES = {"sigsep", "kellerjordan"}
TEXTS = {".ipynb", ".md", ".py", ".yml", ".yaml", ".toml", ".txt", ".cff", ".bib", ".html", ".json", ".svg", ""}


def files(root: Path) -> list[Path]:
    """All files of text, but this one and what `make` builds."""
    folders = [root / name for name in (".ci", ".github", "benchmarks", "book", "data", "msdm_lite", "tests")]
    found = [path for path in (*root.iterdir(), *(path for folder in folders for path in folder.rglob("*")))
             if path.suffix in TEXTS and path.is_file() and "__pycache__" not in path.parts
             and path.name not in (".git", "test_address.py")]
    assert len(found) > 300
    return found


def named(root: Path) -> dict[str, set[str]]:
    """Repositories and sites on GitHub that the files below `root` name, with the files; sites as owner.github.io."""
    found: dict[str, set[str]] = {}
    for path in files(root):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"github\.com/(?:github/)?([\w-][\w.-]*/[\w.-]*[\w-])|google\.com/github/"
                               r"([\w.-]+/[\w.-]+)|([\w-]+\.github\.io)", text):
            found.setdefault("".join(name), set()).add(path.relative_to(root).as_posix())
    return found


def test_no_address_is_named_but_the_one_of_the_setting_and_those_of_others():
    found = {name: places for name, places in named(ROOT).items()
             if name not in OTHERS and name.removesuffix(".github.io") not in SITES}
    if not OURS:
        assert found == {}
        return
    site = f"{OURS.split('/')[0].lower()}.github.io"
    assert set(found) == {OURS, site}
    assert found[OURS] == {"_config.yml", "pyproject.toml", "CITATION.cff", "README.md", "book/how-to-cite.md",
                           "book/index.md", "data/README.md", *(f"book/{path.name}" for path in CHAPTERS)}
    assert found[site] == {"README.md", "pyproject.toml"}


def test_nothing_is_installed_from_an_index_under_our_name():
    """It is not ours there, and whoever takes it would be installed."""
    for path in files(ROOT):
        text = path.read_text(encoding="utf-8").replace("\\n", "\n")
        assert not (found := re.search(r"pip install [^\n]*\bmsdm[-_]lite(?!\S* @ )(?!-\S*\.whl)\b[^\n]*", text)) \
            or "git+" in found[0] or "figure" in found[0], f"{path}: {found[0]}"


def test_every_place_has_what_the_setting_says():
    url = f"https://github.com/{OURS}"
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"] == (url if OURS else "")
    assert config["repository"]["branch"] == address.BRANCH
    assert config["html"]["use_repository_button"] is bool(OURS)  # the build fails with a button that leads nowhere
    assert bool(config["launch_buttons"]["colab_url"]) is bool(OURS)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")).get("repository-code") == (
        url if OURS else None)
    cited = (ROOT / "book" / "how-to-cite.md").read_text(encoding="utf-8").split("\n}\n")[0]
    assert re.findall(r"url += \{(.*)\}", cited) == ([url] if OURS else [])
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})
    assert urls == ({"Repository": url, "Book": address.book(OURS)} if OURS else {})
    for page in ("README.md", "book/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert (f"git+{url}" in text) is bool(OURS)
        assert "make wheel" in text or (OURS and page == "book/index.md")
        assert ('pip install ".[notebook,train,data,measure]"' in text) is not bool(OURS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_badge_and_setup_cell_of_a_notebook(path):
    """One text of the setup cell everywhere, in the first cell of code; a badge where there is an address."""
    cells = nbformat.read(path, as_version=4).cells
    setup = [cell for cell in cells if "setup" in cell.metadata.get("tags", [])]
    assert setup == [next(cell for cell in cells if cell.cell_type == "code")]
    assert setup[0].source == address.setup_cell(OURS)
    link = f"https://colab.research.google.com/github/{OURS}/blob/main/book/{path.name}"
    assert re.findall(r"\[!\[Open in Colab\]\([\w/.-]+\)\]\((.*?)\)", cells[0].source) == ([link] if OURS else [])
    assert "colab.research" not in "".join(cell.source for cell in cells[1:])
    assert re.match(r"# \S.*\n\n\S", cells[0].source)


def test_the_setup_cell_has_what_all_chapters_need_and_leaves_torch_alone():
    source = address.setup_cell("")
    assert len(source.splitlines()) <= 12 and source.count("%pip") == 1
    extras = set(re.search(r"msdm-lite\[([\w,]+)\] @", source)[1].split(","))
    assert extras <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    code = "\n".join(cell.source for path in CHAPTERS for cell in nbformat.read(path, as_version=4).cells
                     if cell.cell_type == "code")
    for extra, used in (("measure", r"\b(coherence|band_quality|fad|librosa)\."),
                        ("notebook", r"\bmsdm_lite\.notebook\b"), ("train", r"\btrain\(|msdm_lite\.training\b")):
        assert re.search(used, code) and extra in extras
    assert not re.search(r"\b(torch|torchaudio|numpy)\b|%%capture", source)


def installed(source: str, monkeypatch, present: bool = False) -> list[str]:
    """What the setup cell gives to %pip, run in a shell as a notebook runs it, with the package there or not."""
    lines, find_spec = [], importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: (
        (object() if present else None) if name == "msdm_lite" else find_spec(name, *more)))
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd() / "ipython"))
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    shell.register_magic_function(lines.append, "line", "pip")
    shell.run_cell(source, store_history=False).raise_error()
    return lines


@pytest.mark.parametrize("repository", ["", "owner/name"])
def test_the_setup_cell_installs_the_newest_wheel_that_lies_beside_it(repository, tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for age, name in enumerate(("msdm_lite-0.10.0-py3-none-any.whl", "msdm_lite-0.9.0-py3-none-any.whl", "other.whl")):
        (folder / name).touch()
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    place = f"{tmp_path.as_uri()}/a%20folder/msdm_lite-0.10.0-py3-none-any.whl"
    assert installed(address.setup_cell(repository), monkeypatch) == [
        f'install -q "msdm-lite[measure,notebook,train] @ {place}"']


def test_the_setup_cell_installs_from_the_address_where_no_wheel_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert installed(address.setup_cell("owner/name"), monkeypatch) == [
        'install -q "msdm-lite[measure,notebook,train] @ git+https://github.com/owner/name"']


def test_the_setup_cell_says_in_one_line_what_to_do_where_neither_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^[^\n]*msdm_lite-\*\.whl[^\n]*`make wheel`[^\n]*Colab[^\n]*$"):
        installed(address.setup_cell(""), monkeypatch)
    assert "## In Colab\n" in (ROOT / "README.md").read_text(encoding="utf-8")  # the section that it names


def test_the_setup_cell_does_nothing_where_the_package_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert installed(address.setup_cell("owner/name"), monkeypatch, present=True) == []
    assert installed(address.setup_cell(""), monkeypatch, present=True) == []


# Writing it


@pytest.fixture
def copy(tmp_path) -> Path:
    """The tree without what `make` builds; what has no address in it is linked and not copied."""
    root = tmp_path / "copy"
    (root / "data").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, root)
        elif path.name in (".ci", ".github", "book", "tests"):
            shutil.copytree(path, root / path.name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("benchmarks", "msdm_lite"):
        (root / name).symlink_to(ROOT / name)
    for path in (ROOT / "data").iterdir():
        if path.is_dir():
            (root / "data" / path.name).symlink_to(path)
        else:
            shutil.copy(path, root / "data")
    return root


def contents(root: Path) -> dict[str, str]:
    """The hash of every file below `root` that is no link."""
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts}


AFFECTED = "index_under or no_address or every_place or badge or ships or title or need_no_network or left_over"


def test_it_is_written_and_taken_out_again(copy):
    """Every place has it, and the tests pass with it and without; then the tree is the same again."""
    before = contents(copy)
    assert address.write(copy, OURS) == []
    for repository in ("some-body/their.music", ""):
        for _ in range(2):  # the second changes nothing
            done = subprocess.run([sys.executable, ".ci/address.py", repository], cwd=copy, capture_output=True,
                                  text=True)
            assert done.returncode == 0, done.stderr
        assert done.stdout == f"{repository or 'No address'}: 0 files changed\n"
        assert address.current(copy) == repository
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest",
                               "tests/test_address.py", "tests/test_book.py", "-k", AFFECTED],
                              cwd=copy, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(copy)})
        assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
    address.write(copy, OURS)
    assert contents(copy) == before


def test_a_changed_place_is_an_error_and_nothing_is_written(copy):
    for name in ("README.md", "CITATION.cff"):
        kept = (copy / name).read_text(encoding="utf-8")
        other = kept.replace("brings the package", "has it").replace("license", "licence")
        (copy / name).write_text(other, encoding="utf-8")
        before = contents(copy)
        with pytest.raises(ValueError, match=rf"^{name} has 0 times, and not once"):
            address.write(copy, "a/b")
        assert contents(copy) == before
        (copy / name).write_text(kept, encoding="utf-8")
    (copy / "_config.yml").write_text("repository:\n  url: https://example.org/a/b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^_config\.yml has neither"):
        address.write(copy, "a/b")


@pytest.mark.parametrize("name", ["a", "a/b/c", "a b/c", "-a/b", "a/b.", "a/", "/b", "https://github.com/a/b", 'a/b"',
                                  "a/b\n"])
def test_what_is_no_repository_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"^REPOSITORY is owner/name as on GitHub, or empty, and not [^\n]*$"):
        address.write(ROOT, name)


def test_make_asks_which_address():
    """`make address` alone must not take out the one that is there."""
    done = subprocess.run(["make", "address"], cwd=ROOT, capture_output=True, text=True,
                          env={key: value for key, value in os.environ.items() if key != "REPOSITORY"})
    assert done.returncode != 0 and "make address REPOSITORY=owner/name" in done.stderr
