"""The book as code: what every chapter must have, so that readers find it, and Colab and the build can run it.

Badges and setup cells, which depend on the address, are held by `tests/test_address.py`.
"""

import ast
import re
import unicodedata
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
HEADINGS = ["What you will be able to do", "What you need first", "What it costs", "Quick check", "Exercises",
            "Summary", "Where to read on"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def python(cell) -> list[str]:
    """The lines of code of a cell: without comments, blank lines and magics."""
    lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
    return [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines]


def sections(chapter, level: int) -> list[tuple[str, list]]:
    """(heading, cells below it) for each heading of that level; a heading stands at the start of a line of markdown."""
    found, fenced = [("", [])], re.compile(r"^```.*?^```", re.M | re.S)
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            for depth, text in re.findall(r"^(#{1,6}) +(.*?) *$", fenced.sub("", cell.source), re.M):
                if len(depth) <= level:
                    found.append((text if len(depth) == level else "", []))
        found[-1][1].append(cell)
    return [(text, cells) for text, cells in found if text]


def assignments(cell) -> dict[str, ast.expr]:
    """Name and value of each assignment; what is no plain assignment to one name fails the test."""
    result = {}
    for node in ast.parse(cell.source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        assert len(targets) == 1 and isinstance(targets[0], ast.Name), f"not name = literal: {ast.unparse(node)}"
        result[targets[0].id] = node.value
    return result


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.name)
def path(request) -> Path:
    return request.param


@pytest.fixture
def chapter(path):
    return nbformat.read(path, as_version=4)


def test_there_is_a_book():
    """Without a chapter, every test below would pass on nothing."""
    assert CHAPTERS and (ROOT / "README.md").is_file()


def test_every_page_is_in_the_table_of_contents_and_there_is_nothing_else():
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    named = re.findall(r"^\s*(?:- )?(?:file|root):\s*(\S+)", toc, re.M)
    pages = {f"book/{page.stem}" for page in (ROOT / "book").iterdir() if page.suffix in (".md", ".ipynb")}
    assert sorted(named) == sorted(pages | {"genindex"})  # which Sphinx makes


def test_it_is_a_notebook_as_it_ships(chapter):
    nbformat.validate(chapter)
    assert chapter.metadata.kernelspec.name == "python3"
    assert "widgets" not in chapter.metadata
    for cell in chapter.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, "strip the outputs: nbstripout book/*.ipynb"
            assert not {"skip-execution", "raises-exception"} & set(tags(cell)), f"never run: {cell.source[:60]}"


def test_it_opens_with_a_title(chapter):
    first = chapter.cells[0]
    assert first.cell_type == "markdown" and re.match(r"# \S", first.source)


def test_pages_need_no_network(chapter):
    """A picture from elsewhere is a broken frame in the page on a train."""
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"""!\[[^]]*\]\(https?:|src=["']https?:""", cell.source), cell.source[:80]


@pytest.mark.parametrize("heading", HEADINGS)
def test_it_has_the_section(chapter, heading):
    assert any(text.startswith(heading) for level in (2, 3, 4) for text, _ in sections(chapter, level))


def test_it_lets_the_reader_predict_before_it_shows(chapter):
    texts = [cell.source for cell in chapter.cells if cell.cell_type == "markdown"]
    assert sum("**predict" in text.lower() for text in texts) >= 2


def test_parameters_are_literals_and_mocks_name_them(chapter):
    cells = [cell for cell in chapter.cells if "parameters" in tags(cell)]
    assert len(cells) == 1
    values = assignments(cells[0])
    for value in values.values():
        ast.literal_eval(value)
    for cell in chapter.cells:
        mock = cell.metadata.get("nbmake", {}).get("mock", {})
        assert set(mock) <= set(values) and (not mock or cell == cells[0])


def test_answers_of_quick_checks_are_folded(chapter):
    for level in (2, 3, 4):
        for text, cells in sections(chapter, level):
            if text.startswith("Quick check"):
                assert any(cell.cell_type == "markdown" and "<details>" in cell.source for cell in cells), text


def test_exercises_have_folded_solutions_that_run(chapter):
    exercises = [(text, cells) for text, cells in sections(chapter, 3) if re.match(r"Exercise\b", text)]
    assert len(exercises) >= 3
    for text, cells in exercises:
        folded = [cell for cell in cells if cell.cell_type == "code" and {"hide-cell", "hide-input"} & set(tags(cell))]
        assert any(python(cell) for cell in folded), f"no solution: {text}"


def test_code_can_be_parsed(chapter):
    for cell in chapter.cells:
        if cell.cell_type == "code":
            ast.parse("\n".join(python(cell)) or "pass")


def test_no_module_of_the_package_is_hidden_by_a_variable(chapter):
    """A later cell, or a reader's own, would ask the variable for what the module has."""
    trees = [ast.parse("\n".join(python(cell))) for cell in chapter.cells if cell.cell_type == "code"]
    modules = {name.asname or name.name for tree in trees for node in ast.walk(tree)
               if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("msdm_lite")
               for name in node.names if (ROOT / node.module.replace(".", "/") / f"{name.name}.py").exists()}
    assert modules, "a chapter that imports no module: is the package looked for in the right place?"
    bound = [node.id for tree in trees for node in ast.walk(tree)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    bound += [node.name for tree in trees for node in ast.walk(tree)
              if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert not modules & set(bound)


def test_nothing_is_left_over_and_no_path_of_one_machine():
    """In notebooks, pages and code. A path after a word is part of an address, and fine."""
    forbidden = re.compile(r"\bTO" r"DO\b|(?<![\w.~$}/-])/(?:work|root|home)/")
    folders = [ROOT / name for name in ("book", "msdm_lite", "tests", "data", "benchmarks", ".ci", ".github")]
    files = [*ROOT.glob("*.*"), ROOT / "Makefile", *(file for folder in folders for file in folder.rglob("*"))]
    for file in files:
        if file.suffix in (".ipynb", ".md", ".py", ".yml", ".toml", ".txt", ".html", "") and file.is_file():
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".ipynb":  # as it is read: in the file, a line break is a letter
                text = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
            found = forbidden.search(text)
            assert not found, f"{file.relative_to(ROOT)}: {found.group()}"


# What every reader of the paper asks: the first words of the code cells that answer
ASKED = (
    "The same band over and over",
    "Do smaller steps cure what Dirac",
    "Gaussian against Dirac, on every clip",
    "Poor separation, as it sounds",
    "Does it matter which source is",
    "Accompaniments that do not follow",
    "Guitar and piano to given bass",
    "When do added stems fit nothing?",
    "What is context worth where sources",
    "Independent models against the joint one",
    "A number for generated music",
    "Guidance against Dirac, by genre; below,",
    "What is left when the music",
    "What is left in other styles?",
    "Recordings of people",
    "Why is a joint density more than the product",
    "How does the loss become a denoiser's?",
    "How does classifier-free guidance differ from Dirac?",
)


@pytest.mark.parametrize("question", ASKED)
def test_what_the_paper_leaves_to_ask_has_a_titled_cell_that_runs(question):
    found = []
    for path in CHAPTERS:
        for cell in nbformat.read(path, as_version=4).cells:
            head = cell.source.splitlines()[:2] if cell.cell_type == "code" else []
            if any(line.startswith(f"# {question}") for line in head) and len(python(cell)) > 3:
                found.append(path.name)
    assert len(found) == 1, f"{question}: {found}"


def test_every_work_that_a_chapter_links_is_in_the_bibliography():
    listed = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    linked = {}
    for path in CHAPTERS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                linked |= dict.fromkeys(re.findall(r"arxiv\.org/abs/(\d{4}\.\d{4,5})", cell.source), path.name)
    assert {number: page for number, page in linked.items() if number not in listed} == {}


def test_every_work_in_the_bibliography_is_used():
    """By its number on arXiv, its DOI, or its first author and year, in a chapter, a page, or the package."""
    places = [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md"), *(ROOT / "msdm_lite").rglob("*.py"),
              *(ROOT / "data").glob("*.md")]
    used = unicodedata.normalize("NFD", "\n".join(path.read_text(encoding="utf-8") for path in places))
    used = "".join(letter for letter in used if not unicodedata.combining(letter))
    unused = []
    for entry in (ROOT / "book" / "references.bib").read_text(encoding="utf-8").split("\n@"):
        key = re.search(r"\{(\w+),", entry).group(1)
        numbers = re.findall(r"(?:arXiv:|eprint = \{)(\d{4}\.\d{4,5})|doi = \{([^}]+)\}", entry)
        author = re.search(r"author = \{([^,]+),", entry).group(1)
        author = re.sub(r"[{}\\'\"`^~]", "", author)  # without its accents, as the text below
        year = re.search(r"year = \{(\d+)\}", entry).group(1)
        if not any(number and number in used for pair in numbers for number in pair) and not re.search(
                rf"{author}\D{{0,40}}{year}", used):
            unused.append(key)
    assert unused == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_is_in_the_lists_that_readers_see(path):
    for place in ("README.md", "book/index.md", "_toc.yml"):
        assert path.stem in (ROOT / place).read_text(encoding="utf-8"), place
