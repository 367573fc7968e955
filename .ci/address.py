"""The address of the repository, written wherever it stands: `make address REPOSITORY=owner/name`, on GitHub.

The one setting is `repository: url:` of _config.yml, which the site reads itself. Until the address is known it is
empty, and no page names one: an address that nobody owns may one day be somebody's, and the setup cells would install
what lies there. `make address REPOSITORY=` takes it out again. Only the standard library is needed: it runs before
`make` has set up anything.
"""

import json
import re
import sys
from pathlib import Path

GITHUB = "https://github.com/"
COLAB = "https://colab.research.google.com/github/"
BRANCH = "main"
EXTRAS = "[notebook,train,data,measure]"
WHEEL = "\nand the first code cell installs it. In Jupyter, put the wheel into the folder of the notebook.\n"

# The first code cell of every notebook; only the word after "else" depends on the address.
SETUP = """\
# Installs the package where it is missing: the newest wheel beside this notebook, else what lies at the address.
import importlib.util
from pathlib import Path

if importlib.util.find_spec("msdm_lite") is None:
    wheels = sorted(Path.cwd().glob("msdm_lite-*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    source = wheels[-1].as_uri() if wheels else "ADDRESS"
    if not source:
        raise SystemExit("Put dist/msdm_lite-*.whl, which `make wheel` makes, beside this notebook (in Colab: "
                         "upload it to Files), and run this cell again; README, section In Colab.")
    %pip install -q "msdm-lite[measure,notebook,train] @ {source}\""""


def setup_cell(repository: str) -> str:
    """The text of the setup cell; `repository` is owner/name, or empty."""
    return SETUP.replace("ADDRESS", f"git+{GITHUB}{repository}" if repository else "")


def badge(repository: str, name: str) -> str:
    """The line below the title of the notebook of that file name; without an address there is none."""
    return f"[![Open in Colab](figures/open-in-colab.svg)]({COLAB}{repository}/blob/{BRANCH}/book/{name})"


def book(repository: str) -> str:
    """Where GitHub Pages shows the book."""
    owner, name = repository.split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def texts(repository: str) -> list[tuple[str, str]]:
    """(file, what stands there once), in the same order for every repository, the empty one included."""
    if not repository:
        return [
            ("_config.yml", '  url: ""\n'),
            ("_config.yml", '  colab_url: ""\n'),  # the site cannot be built with a button that leads nowhere
            ("_config.yml", "  use_repository_button: false\n"),
            ("pyproject.toml", "\n[project.scripts]\n"),
            ("CITATION.cff", "license: MIT\n"),
            ("book/how-to-cite.md", "  year   = {2026}\n}"),
            ("data/README.md", "with the address of this repository."),
            ("README.md", "**Hear it**: `make book` builds the book, which plays in the browser; its chapters run in "
                          "Colab, [as described below](#in-colab).\n"),
            ("README.md", f'In another environment, `pip install ".{EXTRAS}"` in this folder brings the package'),
            ("README.md", WHEEL),
            ("book/index.md", "Upload its notebook there,\nand the wheel that `make wheel` makes to Files; the first "
                              "code cell installs it. Change a line; do the exercises.\n"),
            ("book/index.md", "\npip install .     # in the folder of the project: the package, with the models\n"),
            ("book/index.md", f'\npip install ".{EXTRAS}"\n'),
        ]
    url = GITHUB + repository
    first = f"{COLAB}{repository}/blob/{BRANCH}/book/01-sources-and-context.ipynb"
    return [
        ("_config.yml", f"  url: {url}\n"),
        ("_config.yml", "  colab_url: https://colab.research.google.com\n"),
        ("_config.yml", "  use_repository_button: true\n"),
        ("pyproject.toml", f'\n[project.urls]\nRepository = "{url}"\nBook = "{book(repository)}"\n'
                           "\n[project.scripts]\n"),
        ("CITATION.cff", f"license: MIT\nrepository-code: {url}\n"),
        ("book/how-to-cite.md", f"  year   = {{2026}},\n  url    = {{{url}}}\n}}"),
        ("data/README.md", f"with the address of this repository, <{url}>."),
        ("README.md", f"**Hear it**: [the book]({book(repository)}) plays in the browser, and its\n"
                      f"[first chapter]({first})\nopens in Colab.\n"),
        ("README.md", f'Without this repository, `pip install "msdm-lite{EXTRAS} @ git+{url}"` brings the package'),
        ("README.md", f"{WHEEL}Without a wheel, as where a chapter's badge opens it, the cell installs what lies at "
                      "the address.\n"),
        ("book/index.md", "The badge at its top\nopens it. Change a line; do the exercises.\n"),
        ("book/index.md", f"\npip install git+{url}     # the package, with the models\n"),
        ("book/index.md", f'\npip install "msdm-lite{EXTRAS} @ git+{url}"\n'),
    ]


def current(root: Path) -> str:
    """The setting: owner/name, or empty.

    Raises:
        ValueError: the configuration has no such setting, or an address that is not on GitHub.
    """
    found = re.search(rf'^repository:\n  url: (?:""|{re.escape(GITHUB)}(\S+))\n',
                      (root / "_config.yml").read_text(encoding="utf-8"), re.M)
    if not found:
        raise ValueError('_config.yml has neither `url: ""` nor an address on GitHub below `repository:`')
    return found[1] or ""


def notebook(path: Path, repository: str) -> str:
    """The text of the notebook with the badge and the setup cell of that repository."""
    content = json.loads(path.read_text(encoding="utf-8"))
    title, *rest = "".join(content["cells"][0]["source"]).split("\n\n")
    rest = [part for part in rest if not part.startswith("[![Open in Colab](")]
    parts = [title, *([badge(repository, path.name)] if repository else []), *rest]
    content["cells"][0]["source"] = "\n\n".join(parts).splitlines(keepends=True)
    setup = [cell for cell in content["cells"] if "setup" in cell["metadata"].get("tags", [])]
    if len(setup) != 1:
        raise ValueError(f"{path} has {len(setup)} cells with the tag setup, and needs one")
    setup[0]["source"] = setup_cell(repository).splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def write(root: Path, repository: str) -> list[Path]:
    """Write the address everywhere below `root`, or nothing at all; returns the files that changed.

    Raises:
        ValueError: not owner/name, or a place that no longer has its text (once) and must be named here anew.
    """
    if repository and not re.fullmatch(r"[A-Za-z0-9](?:-?[A-Za-z0-9])*/[A-Za-z0-9._-]*[A-Za-z0-9_-]", repository):
        raise ValueError(f"REPOSITORY is owner/name as on GitHub, or empty, and not {repository!r}")
    new: dict[Path, str] = {}
    for (name, before), (_, after) in zip(texts(current(root)), texts(repository), strict=True):
        text = new.get(root / name) or (root / name).read_text(encoding="utf-8")
        if text.count(before) != 1:
            times = text.count(before)
            raise ValueError(f"{name} has {times} times, and not once, what .ci/address.py replaces: {before!r}")
        new[root / name] = text.replace(before, after)
    new |= {path: notebook(path, repository) for path in sorted((root / "book").glob("*.ipynb"))}
    changed = [path for path, text in new.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(new[path], encoding="utf-8")
    return changed


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    try:
        changed = write(root, sys.argv[1] if len(sys.argv) == 2 else "?")
    except ValueError as problem:
        sys.exit(str(problem))
    print(f"{current(root) or 'No address'}: {len(changed)} files changed")


if __name__ == "__main__":
    main()
