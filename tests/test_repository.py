"""What stands around the package: workflows, citation, templates. They name things that must be there."""

import ast
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import msdm_lite
from msdm_lite.cli.main import COMMANDS

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


def test_workflows_write_the_address_of_where_they_run_before_they_build_or_test():
    written = 0
    for workflow in WORKFLOWS:
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            commands = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
            makes = [bool(re.search(r"\bmake (\w+ )*(book|test|pages|links)\b", line)) for line in commands]
            if any(makes):
                assert any(line.startswith('make address REPOSITORY="$GITHUB_REPOSITORY"')
                           for line in commands[:makes.index(True)]), workflow
                written += 1
    assert written == 4


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


def test_one_version_of_each_linter():
    makefile = dict(re.findall(r"^(RUFF|MUTMUT|MYPY) := (\S+)", (ROOT / "Makefile").read_text(), re.M))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["rev"] for hook in hooks if "ruff" in hook["repo"]] == [f"v{makefile['RUFF']}"]


def guides() -> list[Path]:
    """Every page that people read: Markdown and notebooks."""
    found = [*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md"), *(ROOT / "book").glob("*.ipynb"),
             *(ROOT / "data").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    assert len(found) >= 25
    return found


def test_files_and_modules_named_in_the_guides_are_there():
    """Paths in backquotes, and dotted names of the package anywhere: each is a module, or something in one."""
    named = 0
    for page in guides():
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:msdm_lite|book|data|tests|benchmarks)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), f"{page} names {path}"
        for name in set(re.findall(r"\bmsdm_lite(?:\.[a-zA-Z_]\w*)+", text)):
            assert pkgutil.resolve_name(name) is not None, f"{page} names {name}"
            named += 1
    assert named >= 60


def test_the_wheel_carries_the_data_where_the_package_looks_for_them():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["msdm_lite", "data"] and wheel["sources"] == {"data": "msdm_lite/_data"}


def test_the_package_works_without_what_only_some_parts_need(tmp_path):
    """The extras are blocked in a process of its own; it separates, generates to a tempo, and says what is missing."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[><=\[]", word)[0] for some in extras.values() for word in some}
    modules = {"pyyaml": "yaml", "pyfluidsynth": "fluidsynth", "ipython": "IPython", "pillow": "PIL"}
    blocked = sorted({modules.get(name, name.replace("-", "_")) for name in names} - {"scipy"})  # torch may use scipy
    assert {"mido", "librosa", "torchaudio", "accelerate", "matplotlib", "IPython", "PIL"} <= set(blocked)
    program = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it fails
import torch, msdm_lite
from msdm_lite.errors import InputError
model = msdm_lite.load("tiny", "cpu")
assert msdm_lite.separate(torch.randn(5000), model).shape == (4, 5000)
assert msdm_lite.generate("lite", 0.2, steps=1, sketcher="lite-sketch").shape == (1, 4, 4410)
from msdm_lite.data import corpus
try:
    corpus.songs("train", "band")[0].beat_phase([0.0])
except InputError as problem:
    assert "mido" in str(problem), problem
else:
    raise SystemExit("the beats of a song need mido")
try:
    import msdm_lite.notebook.player
except InputError as problem:
    assert str(problem) == "plots need matplotlib: pip install matplotlib", problem
else:
    raise SystemExit("players need IPython")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"MSDM_LITE_CACHE": str(tmp_path)})  # clicks found before are kept there
    assert done.returncode == 0, done.stderr


def modules() -> list[Path]:
    """All modules of the package; far fewer would mean that they are looked for in the wrong place."""
    found = sorted(path for path in (ROOT / "msdm_lite").rglob("*.py") if path.stem not in ("__init__", "__main__"))
    assert len(found) >= 80
    return found


def test_every_module_has_its_tests_in_a_file_of_its_name():
    """msdm_lite/room/module.py is imported by tests/room/test_module.py, which has at least one test."""
    for path in modules():
        module = path.relative_to(ROOT).with_suffix("")
        file = ROOT / "tests" / Path(*module.parts[1:-1]) / f"test_{module.name}.py"
        assert file.exists(), f"{path} has no tests in {file}"
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported = {node.module for node in imports} | {f"{node.module}.{name.name}" for node in imports
                                                        for name in node.names}
        assert ".".join(module.parts) in imported, f"{file} does not import {path}"
        assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body), file


def test_every_module_names_its_chapter():
    """Where it is explained, or the card that it makes; but for those that serve all of them."""
    for path in modules():
        if path.stem == "errors" or path.parent.name == "utils":
            continue
        opening = path.read_text(encoding="utf-8").split('"""')[1]
        pages = re.findall(r"`((?:book|data)/[\w./-]+\.(?:ipynb|md))`", opening)
        assert pages and all((ROOT / page).exists() for page in pages), f"{path} names no chapter"


def test_the_rooms_and_what_may_stand_beside_them():
    package = ROOT / "msdm_lite"
    files = {path.name for path in package.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "errors.py", "py.typed"}
    rooms = sorted(path.parent for path in package.glob("*/__init__.py"))
    assert len(rooms) == 11
    for room in rooms:  # what lives there, what may not, and nothing else
        tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
        assert len(tree.body) == 1 and ast.get_docstring(tree), room


def test_no_module_is_too_long_to_be_read_in_one_sitting():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert not {name: length for name, length in lengths.items() if length > 300}


def test_arrows_between_rooms_point_down():
    """The contracts of pyproject.toml, kept by import-linter."""
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"[2-9] kept, 0 broken", done.stdout), done.stdout + done.stderr


def test_paths_that_the_tools_are_given_are_there():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    paths = [*tools["mutmut"]["only_mutate"], *tools["mutmut"]["source_paths"],
             *tools["mutmut"]["pytest_add_cli_args_test_selection"], *tools["mutmut"]["also_copy"]]
    paths += re.findall(r"\btests/[\w/]+\.py", (ROOT / "Makefile").read_text() + (ROOT / ".ci" / "colab").read_text())
    assert len(paths) >= 9 and all((ROOT / path).exists() for path in paths)


# Identifiers and terms that the field has other words for. The tables that read older files still name them
RETIRED = ("must_sound", "must_paint", "must_play", "must_open", "takes_click", "takes_known", "the_mixture",
           "separate_together", "separate_pictures", "beside_strangers", "out_of_phase", "needs_shapes", "fold_frames",
           "begin_with", "nearer_than_strangers", "two_tunes", "to_picture", "from_picture", "method_for", "told_norm",
           "learned_in", "crops_to_judge")
# Modules before they moved into rooms, as they were imported; those whose name a room has now are not among them
MOVED = ("ablations", "baselines", "bundle", "card", "checkpoint", "claims", "cli_make", "click", "clouds",
         "coherence", "compose", "composed", "compressed", "context", "convergence", "convolution", "corpus", "crops",
         "cut", "debian", "device", "distance", "domain", "edm", "evaluate", "evaluate_songs", "face", "fad",
         "folders", "guidance", "guided", "imputation", "items", "journal", "judge", "known", "leaks", "lineup",
         "listen", "live", "methods", "metrics", "midi", "mixes", "model", "model_card", "musicnn", "optimizer",
         "oracle", "pairs", "parts", "played", "projdiff", "published", "readers", "recipe", "recorded", "recordings",
         "render", "resident", "resources", "results", "run", "sampling", "scoring", "seeds", "separation", "sketch",
         "sketcher", "song", "start", "sub_fad", "supervised", "tensorflow_file", "terminal", "tracks", "train",
         "transform", "unet", "unet1d", "unpickle", "validation", "variation", "vggish", "wave", "weights", "windows")
TERMS = ("told", "judge", "judged", "face", "stranger", "strangers", "dealt", "painter", "paint", "painted", "paints",
         r"must_\w+")
TABLES = {"records.py", "weights.py"}
# On pages, where a single word may stand in its everyday sense
PHRASES = ("mixture known", "shaped noise", "third way", "dealt anew", "dealt out", "strangers", "painters?", "painted",
           "told the mix(ture)?", "minutes taught", "second visit", "kept apart", "fresh noise",
           "learns? by heart", "cross-faded guesses", "tossed (coins|signs)")


def test_retired_phrases_stay_out_of_the_pages():
    phrases = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)
    assert phrases.search("the painter of the dealt anew") and phrases.search("Strangers")
    for page in guides():
        if page.name != "CHANGELOG.md":  # which says what a name was before
            assert not (found := phrases.search(page.read_text(encoding="utf-8"))), f"{page} has {found[0]}"


def test_retired_names_and_terms_stay_out():
    names, terms, moved = (re.compile(rf"{before}\b(?:{'|'.join(words)})\b", flags) for before, words, flags in (
        ("", RETIRED, re.NOFLAG), ("", TERMS, re.IGNORECASE), (r"\bmsdm_lite[./]", MOVED, re.NOFLAG)))
    for path in modules():
        if path.name not in TABLES:
            text = path.read_text(encoding="utf-8")
            text = text.replace("distance-paint", "").replace("12-longer-and-stranger", "")  # names of files
            for retired in (names, terms, moved):
                assert not (found := retired.search(text)), f"{path} has {found[0]}"
    others = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "book").glob("*.ipynb"),
              *(ROOT / "book").glob("*.md"), *ROOT.glob("*.md")]
    assert len(others) > 130
    for path in others:
        if path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            for retired in (names, moved):
                assert not (found := retired.search(text)), f"{path} has {found[0]}"


# The public verbs, studies and commands have more, as options by name
VERBS = {"separate", "generate", "accompany", "generate_each", "separate_batch"}


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    """The names of all parameters but `self` and `cls`; *args and **kwargs count as one each."""
    given = function.args
    named = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [one.arg for one in named if one is not None and one.arg not in ("self", "cls")]


def test_parameters_are_counted():
    first, second = ast.parse("def f(self, a, /, b, *c, d=1, **e): pass\ng = lambda x, y: x").body
    assert parameters(first) == ["a", "b", "c", "d", "e"] and parameters(second.value) == ["x", "y"]


def test_no_function_has_more_than_eight_parameters():
    seen, found = 0, set()
    for path in modules():
        name, room = path.relative_to(ROOT).as_posix(), path.parent.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                called = getattr(node, "name", "lambda")
                seen += 1
                excepted = ((called in VERBS and room == "inference") or (called == "main" and room == "studies")
                            or (room == "cli" and COMMANDS.get(called) == path.stem))
                if len(parameters(node)) > 8 and not excepted:
                    found.add(f"{name}: {called}")
    assert seen > 700 and not found


def models_asked_for(text: str, kinds: set[str]) -> set[str]:
    """The classes among `kinds` that isinstance or issubclass, or a pattern of a match, asks for."""
    asked = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            words = node.args[1:]
        elif isinstance(node, ast.MatchClass):
            words = [node.cls]
        else:
            continue
        names = [part for word in words for part in ast.walk(word)]
        asked |= {getattr(part, "id", None) or getattr(part, "attr", "") for part in names
                  if isinstance(part, ast.Name | ast.Attribute)}
    return asked & kinds


@pytest.mark.parametrize("text, asked", [
    ("isinstance(a, Model)", {"Model"}), ("issubclass(a, (str, joint.Model))", {"Model"}),
    ("isinstance(Model, a)", set()),
    ("isinstance(a, Config | Model)", {"Config", "Model"}), ("match a:\n    case Model(): pass", {"Model"}),
    ("isinstance(a, str | Path)", set())])
def test_questions_for_a_class_are_found(text, asked):
    assert models_asked_for(text, {"Model", "Config"}) == asked


def test_only_models_ask_what_kind_of_model_one_is():
    """Classes of models/, and their configurations: others use what the models say of themselves."""
    kinds = {node.name for path in (ROOT / "msdm_lite" / "models").glob("*.py")
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)}
    assert {"StemModel", "Model", "WaveModel", "Sketcher", "IndependentModels", "Config", "WaveConfig"} <= kinds
    found = {path.relative_to(ROOT).as_posix() for path in modules() if path.parent.name != "models"
             if models_asked_for(path.read_text(encoding="utf-8"), kinds)}
    assert not found
