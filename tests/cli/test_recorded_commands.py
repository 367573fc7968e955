"""Command lines that are on record or in the text, each read by the parser that reads it when somebody runs it.

What does the work is a stand-in: a line counts as right if it is accepted, if it comes to the work that it names, and
if its options come there with their values.
"""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
import tyro

from msdm_lite.audio.decode import Sound
from msdm_lite.cli import main as cli
from msdm_lite.studies import __main__ as studies
from msdm_lite.studies import results, runner
from msdm_lite.utils import plugins
from tests.book.test_own_pages import forgotten, write_file

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"COMMANDS": 100, "data/results": 3, "README.md": 6, "CONTRIBUTING.md": 5, "notebooks": 16, "book/*.md": 1,
         "Makefile": 3, ".ci": 0, "data/*.md": 40}  # how many lines each source has or more; .ci calls make alone

# What does the work of a command, by the words of its line; the first that is here counts
WORK = {
    "separate": "inference.separation.separate",
    "generate": "inference.generation.generate_each",
    "accompany": "inference.accompaniment.accompany",
    "train": "training.loop.train",
    "evaluate": "evaluation.separation_quality.evaluate_clips",
    "evaluate --songs": "evaluation.separation_quality.evaluate_songs",
    "evaluate generate": "evaluation.band_quality.evaluate_bands",
    "evaluate accompany": "evaluation.band_quality.evaluate_bands",
    "data build": "data.corpus.build",
    "data compose": "data.band_songs.write",
    "data clips": "data.example_clips.write",
    "data card": "studies.data_card.write",
    "models": "cli.make._table",
    "models --card": "studies.model_card.write",
    "methods": "cli.make._table",
    "results": "studies.results.make",
    "results --check": "studies.results.check",
    "results --table": "studies.results_table.results_table",
}
# An option's other name as an argument of what does the work
OTHER_NAMES = {"songs": "data", "clips": "kind", "sketch": "sketcher", "files": "given"}
# What the command itself does with an option: it is not handed on, or not as it is
HANDLED = {"out", "task", "action", "file", "files", "whole", "card", "check", "table", "device", "model", "source",
           "variations", "programs", "transpose", "soundfonts", "balance", "mono", "stereo", "rate", "format", "bits",
           "two_stems", "overwrite"}
FIRST = {"separate": "files", "accompany": "files", "data": "action", "results": "names"}  # what stands before options


class Reached(Exception):
    """The work would begin here."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A command line: "msdm-lite", "studies" or a script's path, and the words after it.

    A `mention` is a line within a sentence, which may leave out what is required.
    """

    program: str
    words: tuple[str, ...]
    mention: bool = False

    def __str__(self) -> str:
        return shlex.join([self.program, *self.words])


# From text to lines


def called(words: list[str]) -> Line | None:
    """The line that words of a shell call, if it is one of the package."""
    while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] in ("exec", "time", "nohup", "env")):
        words = words[1:]
    if words and PurePath(words[0]).name == "msdm-lite":
        return Line("msdm-lite", tuple(words[1:]))
    for i, word in enumerate(words):
        if i and words[i - 1] == "-m" and word in ("msdm_lite", "msdm_lite.studies"):
            return Line("studies" if "studies" in word else "msdm-lite", tuple(words[i + 1 :]))
    if len(words) > 1 and PurePath(words[0]).name.startswith("python") and words[1].startswith("benchmarks/"):
        return Line(words[1], tuple(words[2:]))
    return None


def lines_of(shell: str, mention: bool = False) -> Iterator[Line]:
    """All command lines of the package in a piece of shell. Variables read VALUE; dots at the end make a mention."""
    for text in shell.replace("\\\n", " ").splitlines():
        if not re.search(r"msdm-lite\s|-m\s+msdm_lite|python benchmarks/", text):
            continue
        text = re.sub(r"\$\$?[({]?\w+[)}]?|\{[\w.]+\}", "VALUE", text.strip().lstrip("!%@-"))
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not re.fullmatch(r"[();<>|&]+", word):
                words.append(word)
                continue
            if (line := called(words)) and line.words:
                dots = line.words[-1] in ("...", "…")
                yield dataclasses.replace(line, words=line.words[: -1 if dots else None], mention=mention or dots)
            words = []


FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def of_markdown(text: str) -> Iterator[Line]:
    """Those of the blocks, and those within sentences."""
    for block in FENCE.findall(text):
        yield from lines_of(block)
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", text)):
        yield from lines_of(span.replace("\n", " "), mention=True)


def of_notebook(text: str) -> Iterator[Line]:
    """Those of its text, and those that its cells hand to a shell or to %run."""
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from of_markdown(source)
        elif re.match(r"%%(?:bash|sh|script)\b", source):
            yield from lines_of(source)
        else:
            joined = source.replace("\\\n", " ").splitlines()
            yield from lines_of("\n".join(line for line in joined if re.match(r"\s*(?:!|%run\b|%sx\b)", line)))


def of_makefile(text: str) -> Iterator[Line]:
    """Those of its recipes."""
    joined = text.replace("\\\n", " ").splitlines()
    yield from lines_of("\n".join(line for line in joined if line.startswith("\t")))


def of_record(text: str) -> Iterator[Line]:
    """The one that made it, if it is not history and the list of commands does not have it."""
    record = json.loads(text)
    if record.get("command") and not record.get("history"):
        yield from lines_of(record["command"], mention=True)


def history(name: str) -> bool:
    """Is the record of that name one that its command no longer makes?"""
    return results.place(name).exists() and bool(json.loads(results.place(name).read_text()).get("history"))


def sources() -> Iterator[tuple[str, Line]]:
    """All lines, each with where it is from."""
    for name, command in results.COMMANDS.items():
        if not history(name):  # `results.run` adds the place
            yield from (("COMMANDS", line) for line in lines_of(f"{command} --out data/results/{name}.json"))
    for title, read, pattern in (("README.md", of_markdown, "README.md"), ("book/*.md", of_markdown, "book/*.md"),
                                 ("CONTRIBUTING.md", of_markdown, "CONTRIBUTING.md"),
                                 ("notebooks", of_notebook, "book/*.ipynb"), ("Makefile", of_makefile, "Makefile"),
                                 (".ci", lines_of, ".ci/*"), ("data/*.md", of_markdown, "data/**/*.md")):
        for path in sorted(ROOT.glob(pattern)):
            yield from ((title, line) for line in read(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "data" / "results").glob("*.json")):
        if path.stem not in results.COMMANDS:
            yield from (("data/results", line) for line in of_record(path.read_text(encoding="utf-8"))
                        if "/" not in line.program)


# Lines that import a reader's study are run by the tests of that page; those of lists and helps do no work
FOUND = [(source, line) for source, line in sources()
         if not {"my_study.py", "--help", "--list", "--version"} & set(line.words)]
LINES = list({str(line): line for _, line in sorted(FOUND, key=lambda found: found[1].mention, reverse=True)}.values())


# What a line gives


def function_of(line: Line) -> tuple[Any, str, list[str]]:
    """The function whose options a line has: its module, its name there, and the words that are left for it."""
    if line.program == "msdm-lite":
        command, *rest = line.words
        return importlib.import_module(f"msdm_lite.cli.{cli.COMMANDS[command]}"), command, rest
    if line.program == "studies":
        study, *rest = line.words
        study = runner.BUILT_IN[0] if study.isupper() else study
        return importlib.import_module(runner.module_of(study)), "main", rest
    spec = importlib.util.spec_from_file_location("a_benchmark", ROOT / line.program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, "main", list(line.words)


def options_of(function: Callable) -> dict[str, tuple[Any, Any]]:
    """Type and default of each option of a function; those of the data classes that it takes are options too."""
    found, hints = {}, get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(hints.get(name)):
            own = get_type_hints(hints[name])
            found |= {each.name: (own[each.name], each.default) for each in dataclasses.fields(hints[name])}
        else:
            found[name] = (hints.get(name), parameter.default)
    return found


def kinds(hint: Any) -> tuple:
    """The types that a hint allows."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def example(hint: Any) -> str:
    """A value of the type of an option, as it is written on a line."""
    for kind in kinds(hint):
        if get_origin(kind) is Literal:
            return get_args(kind)[0]
        if kind in (int, float):
            return "1"
    return "value"


def several(hint: Any) -> bool:
    """Does an option take any number of words?"""
    return any(get_origin(kind) is tuple for kind in kinds(hint))


def given(words: list[str], function: Callable, first: str | None) -> dict[str, list[str] | bool]:
    """The options on a line with their words, or True or False for a switch. Read without the parser."""
    hints, found, free = {name: hint for name, (hint, _) in options_of(function).items()}, {}, []
    name = None  # of the option that takes the next words
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name.startswith("no_") and name not in hints:
                found[name.removeprefix("no_")], name = False, None
            elif bool in kinds(hints.get(name)):
                found[name], name = True, None
            else:
                found[name] = [value] if equals else []
        elif name is None:
            free.append(word)
        else:
            found[name].append(word)
            if not several(hints.get(name)):
                name = None
    if free:
        assert first, f"no option takes {free}"
        found[first] = free
    return found


def written_out(words: list[str], function: Callable, first: str | None, mention: bool) -> list[str]:
    """With values in place of words in capital letters where the type needs it, and with what a mention leaves out."""
    asked = options_of(function)
    hints = {name: hint for name, (hint, _) in asked.items()}
    words = list(words)
    for i, word in enumerate(words):
        option = words[i - 1].removeprefix("--").replace("-", "_") if i and words[i - 1].startswith("--") else first
        if re.fullmatch(r"[A-Z][A-Z_]*", word) and (value := example(hints.get(option))) != "value":
            words[i] = value
    if mention:
        have = given(words, function, first)
        if words and words[-1].startswith("--") and have.get(words[-1][2:].replace("-", "_")) == []:
            words.append(example(hints[words[-1][2:].replace("-", "_")]))
        for name in asked:
            if asked[name][1] is inspect.Parameter.empty and name not in have:
                value = example(hints[name])
                words = [value, *words] if name == first else [*words, f"--{name.replace('_', '-')}", value]
    return words


def same(value: Any, words: list[str] | bool) -> bool:
    """Is a value that arrived what the words on the line say?"""
    if isinstance(words, bool) or isinstance(value, bool):
        return value is words
    if isinstance(value, tuple):
        return [str(each) for each in value] == words
    if len(words) != 1:
        return False
    if isinstance(value, Path):
        return value == Path(words[0])
    return float(words[0]) == value if isinstance(value, int | float) else value == words[0]


# Running a line with stand-ins


def stand_in(real: Callable, record: Callable[[dict], object], answer: Callable | None = None) -> Callable:
    """In place of a function: it records its arguments by name, those of a recipe too, and then the work ends."""
    @functools.wraps(real)
    def replaced(*args: Any, **settings: Any) -> Any:
        bound = inspect.signature(real).bind(*args, **settings)
        received = {}
        for name, value in bound.arguments.items():
            if inspect.signature(real).parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                received |= value
            elif dataclasses.is_dataclass(value):
                received |= vars(value)
            else:
                received[name] = value
        record(received)
        if answer is None:
            raise Reached
        return answer(*args, **settings)

    return replaced


@dataclasses.dataclass
class Run:
    """What came of a line: the options that arrived, and each call of what does the work with its arguments."""

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    calls: list[tuple[str, dict]] = dataclasses.field(default_factory=list)
    loaded: dict[str, Any] = dataclasses.field(default_factory=dict)


@pytest.fixture
def run(monkeypatch, tmp_path, tiny):
    """run(line, words): read by the parser of the line's program, in an empty folder, with stand-ins for the work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    seen = Run()

    def replace(path: str, record: Callable[[dict], object], answer: Callable | None = None) -> None:
        module, name = path.rsplit(".", 1)
        module = importlib.import_module(f"msdm_lite.{module}")
        monkeypatch.setattr(module, name, stand_in(getattr(module, name), record, answer))

    for path in set(WORK.values()):
        replace(path, lambda received, path=path: seen.calls.append((path, received)))
    # What a command does before the work: models and sounds are read
    replace("models.weights.load", seen.loaded.update, lambda *_: tiny)
    for path, answer in (("audio.io.load", lambda *_, **__: torch.zeros(5000)),
                         ("audio.io.read", lambda _: Sound(torch.zeros(1, 5000), 22050)),
                         ("inference.accompaniment.load_stems", lambda files, _: files),
                         ("inference.cascade.load_sketcher", lambda sketch, _: sketch)):
        replace(path, lambda _: None, answer)

    def run(line: Line, words: list[str]) -> Run:
        module, name, _ = function_of(line)
        real = getattr(module, name)
        answer = real if line.program == "msdm-lite" else None  # a study is its own work
        monkeypatch.setattr(module, name, stand_in(real, seen.options.update, answer))
        with pytest.raises(Reached):
            if line.program == "msdm-lite":
                assert cli.main([line.words[0], *words]) is None, "it ended before the work"
            elif line.program == "studies":
                study = next(each for each in runner.BUILT_IN if runner.module_of(each) == module.__name__)
                assert studies.main([study, *words]) is None, "it ended before the work"
            else:
                tyro.cli(module.main, args=words)
        return seen

    return run


def work_of(line: Line) -> str:
    """What does the work of a line of `msdm-lite`."""
    command, *rest = line.words
    return next(WORK[key] for key in (*(f"{command} {word}" for word in rest), command) if key in WORK)


def default_options(function: Callable) -> dict[str, Any]:
    """What each option is that a line does not give."""
    return {name: default for name, (_, default) in options_of(function).items()}


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_line_is_accepted_and_its_options_arrive(line, run, tmp_path):
    with forgotten():
        while line.words[0] == "--import":  # a reader's file, which a page of the book has, or FILE.py in its place
            if (page := line.words[1].removeprefix("my_").removesuffix(".py")) != line.words[1].removesuffix(".py"):
                plugins.load(str(write_file(ROOT / "book" / f"own-{page.replace('_', '-')}.ipynb", tmp_path)))
            line = dataclasses.replace(line, words=line.words[2:])
        if line.words[0] != "COMMAND":
            accepted(line, run)


# Options that no line of a record or a text has; those of `train` have a test of their own
RARE = [Line("msdm-lite", tuple(shlex.split(words))) for words in (
    "generate --out o --sketch lite-sketch --tempo 100 --metre 3 --batch 2 --seconds 2.5 --n 4 --seed 7",
    "generate --out o --method paper --steps 9 --churn 1.5 --sigma-max 5 --sigma-min 0.02 --sampler euler --device cpu",
    "accompany bass.wav drums=kick.wav --out o --weight 2.5 --level keep --method stems-given --device cpu",
    "accompany bass.wav --out o --method replacement --corrections 3 --churn 2 --sigma-max 5 --sigma-min 0.02",
    "evaluate --method guided --weight 1.5 --samples 3",
    "evaluate --method gaussian --c 0.5 --churn 2 --corrections 2 --sigma-max 5",
    "evaluate --method dirac --constrained-stem 2 --clips composed",
    "evaluate --songs band --n 5 --seconds 7.5 --batch 3",
    "evaluate --task accompany --given bass --sketch lite-sketch --n 9",
    "data build --source band --workers 2 --variations 1 --no-programs --no-transpose --no-soundfonts --skip",
    "data build --balance loudness", "data compose --seed 4 --out songs", "data clips --seed 3 --out clips",
    "data card --out card", "models --card --out card", "results one two --everything",
    "results --check --count 3 --seconds 100 --seed 2")]


@pytest.mark.parametrize("line", RARE, ids=str)
def test_options_on_no_recorded_line_arrive_too(line, run):
    accepted(line, run)


def accepted(line: Line, run: Callable[[Line, list[str]], "Run"]) -> None:
    """Run a line up to its work, and compare the options that arrive with those on the line."""
    module, name, words = function_of(line)
    function, first = getattr(module, name), FIRST.get(name)
    words = written_out(words, function, first, line.mention)
    options = given(words, function, first)
    seen = run(line, words)
    arrived = default_options(function) | seen.options
    assert {name: arrived[name] for name in options if not same(arrived[name], options[name])} == {}
    assert {name: value for name, value in arrived.items() if name not in options} == {
        name: value for name, value in default_options(function).items() if name not in options}
    if line.program != "msdm-lite":
        return
    (work, received), = seen.calls
    assert work == work_of(line)
    for name in options:
        names = [other for other in (name, OTHER_NAMES.get(name)) if other in received]
        assert names or name in HANDLED, f"--{name} does not come to {work}"
        if names and not isinstance(received[names[0]], dict | torch.nn.Module):
            assert received[names[0]] == arrived[name], f"--{name} comes to {work} as {received[names[0]]!r}"
    if seen.loaded:
        assert list(seen.loaded.values()) == [arrived["model"], arrived["device"]]


def test_every_source_has_lines():
    counts = Counter(source for source, _ in FOUND)
    assert set(counts) <= set(LEAST)
    assert {source: counts[source] for source in LEAST if counts[source] < LEAST[source]} == {}
    assert {line.words[0] for line in LINES if line.program == "msdm-lite"} >= {"--import",
        "separate", "generate", "accompany", "train", "evaluate", "data", "models", "results"}
    assert len({line.words[0] for line in LINES if line.program == "studies"}) >= len(runner.BUILT_IN)


def test_all_commands_have_their_work():
    assert {key.split()[0] for key in WORK} == set(cli.COMMANDS)


@pytest.mark.parametrize("program", ["msdm-lite", "studies"])
def test_an_option_that_is_not_there_is_refused(program, run, capsys):
    line = next(line for line in LINES if line.program == program and any("--seed" in word for word in line.words))
    *_, words = function_of(line)
    words[words.index("--seed")] = "--no-such-option"
    with pytest.raises(SystemExit) as end:
        run(line, words)
    assert end.value.code == 2 and "--no-such-option" in capsys.readouterr().err


@pytest.mark.parametrize("text, lines", [
    ("msdm-lite train \\\n  --out runs/a  # a comment; it's long\n", ["msdm-lite train --out runs/a"]),
    (".venv/bin/msdm-lite separate 'my song.mp3' --out a && msdm-lite results | tail > file.txt",
     ["msdm-lite separate 'my song.mp3' --out a", "msdm-lite results"]),
    ("\t@$(BIN)/msdm-lite data build", ["msdm-lite data build"]),
    ("OMP_NUM_THREADS=1 $python -m msdm_lite generate --seed $SEED --out \"${OUT}\"/b",
     ["msdm-lite generate --seed VALUE --out VALUE/b"]),
    ("!python -m msdm_lite.studies context --out {place}", ["studies context --out VALUE"]),
    ("%run -m msdm_lite.studies context --out a.json", ["studies context --out a.json"]),
    ("torchrun --nproc_per_node 8 -m msdm_lite train ...", ["msdm-lite train"]),
    ("python benchmarks/quality.py --clips 8", ["benchmarks/quality.py --clips 8"]),
    ("pip install \"msdm-lite[train] @ git+https://a.b/msdm-lite\" && echo msdm-lite train", []),
    ("python -c 'import msdm_lite'  # as msdm-lite does", [])])
def test_lines_are_found_in_a_shell(text, lines):
    assert [str(line) for line in lines_of(text)] == lines


def test_lines_are_found_in_text_notebooks_and_recipes():
    text = "Call `msdm-lite\nresults`, or\n\n```bash\nmsdm-lite data build\n```\n and `msdm_lite.load`."
    assert list(of_markdown(text)) == [Line("msdm-lite", ("data", "build")), Line("msdm-lite", ("results",), True)]
    cells = [{"cell_type": "markdown", "source": [text]},
             {"cell_type": "code", "source": ["x = 'msdm-lite train'\n", "!msdm-lite train \\\n", "  --out a"]},
             {"cell_type": "code", "source": ["%%bash\n", "msdm-lite models"]}]
    assert [str(line) for line in of_notebook(json.dumps({"cells": cells}))] == [
        "msdm-lite data build", "msdm-lite results", "msdm-lite train --out a", "msdm-lite models"]
    assert [str(line) for line in of_makefile("## by msdm-lite data build\nresults:\n\tmsdm-lite results\n")] == [
        "msdm-lite results"]
    assert [len(list(of_record(json.dumps({"command": "msdm-lite results", "history": old}))))
            for old in (True, False)] == [0, 1]


def test_a_mention_is_written_out():
    from msdm_lite.cli import evaluate, inference, train

    assert written_out(["--songs"], evaluate.evaluate, None, True) == ["--songs", "value"]
    assert written_out(["--n"], evaluate.evaluate, None, True) == ["--n", "1"]
    assert written_out([], inference.separate, "files", True) == ["value", "--out", "value"]
    assert written_out(["--preset", "NAME", "--minutes", "MINUTES"], train.train, None, False) == [
        "--preset", "NAME", "--minutes", "1"]


@pytest.mark.parametrize("value, words, equal", [
    (50, ["50"], True), (50, ["51"], False), (4e-3, ["4e-3"], True), (("a", "b"), ["a", "b"], True),
    (("a",), ["a", "b"], False), (Path("stems"), ["stems/"], True), ("lite", ["tiny"], False), (None, ["3"], False),
    (True, True, True), (False, True, False), (1, True, False)])
def test_values_are_compared_with_what_the_line_says(value, words, equal):
    assert same(value, words) is equal
