import json
import shlex

import pytest
import torch
import tyro

from msdm_lite.errors import InputError
from msdm_lite.studies import __main__ as studies
from msdm_lite.studies import runner
from msdm_lite.studies.runner import Run, Study
from msdm_lite.utils import files

CALLS: list[str] = []
STOP = {"at": ""}


def measure(run: Run, n: int = 3, level: float = 0.5, seed: int = 0, shown: bool = True,
            stems: tuple[str, ...] = (), name: str | None = None) -> dict:
    """Parts that are tensors or lists.

    Args:
        n: how many.
    """
    def part(i: int) -> object:
        if STOP["at"] == str(i):
            raise KeyboardInterrupt
        CALLS.append(str(i))
        x = torch.rand(2, generator=run.generator(str(i)))
        return x if i % 2 else {"x": x.tolist(), "none": None}

    parts = [run.keep(f"part: {i}/x", lambda i=i: part(i)) for i in range(n)]
    return {"parts": [each.tolist() if isinstance(each, torch.Tensor) else each["x"] for each in parts]}


@pytest.fixture
def main():
    CALLS.clear()
    STOP["at"] = ""
    return runner.runner_of(Study("toy", measure, measures="parts", tolerance=0.25, unsaid=("shown",)))


def test_what_it_writes(main, tmp_path):
    main(tmp_path / "a.json", 2, seed=3)
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["what"], found["seed"], found["tolerance"]) == ("parts", 3, 0.25)
    assert found["command"].endswith(f"toy --n 2 --level 0.5 --seed 3 --out {tmp_path / 'a.json'}")
    assert found["code"]["of"] == "tests/studies/test_runner.py" and found["code"]["modules"] and "dirty" in found
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]
    main(tmp_path / "b.json", 3, seed=3)
    main(tmp_path / "c.json", 3, seed=4)
    more, other = (json.loads((tmp_path / name).read_text())["parts"] for name in ("b.json", "c.json"))
    assert more[:2] == found["parts"] and all(a != b for a, b in zip(more, other, strict=True))


def test_a_stopped_run_resumes_and_other_settings_do_not(main, tmp_path, caplog):
    STOP["at"] = "2"
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path / "a.json")
    STOP["at"] = ""
    main(tmp_path / "a.json")
    assert CALLS == ["0", "1", "2"]
    main(tmp_path / "b.json")
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert one["parts"] == other["parts"]
    STOP["at"] = "2"
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path / "a.json")
    STOP["at"] = ""
    CALLS.clear()
    main(tmp_path / "a.json", level=0.75)
    assert CALLS == ["0", "1", "2"] and "parts of another level: they are computed again" in caplog.text


def test_the_time_of_earlier_runs_counts(main, tmp_path):
    STOP["at"] = "1"
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path / "a.json")
    STOP["at"] = ""
    path = next((tmp_path / "a-parts").glob("*.pt"))
    torch.save(torch.load(path) | {"seconds": 1000.0}, path)
    main(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["wall_seconds"] >= 1000


def test_two_runs_of_one_result(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(runner.STUDIES, "toy", Study("toy", measure))
    out = tmp_path / "a.json"
    with files.claimed(tmp_path / "a-parts"):
        assert studies.main(["toy", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"another run is writing into {out}; choose another file" in said
        assert (tmp_path / "a-parts").is_dir() and not out.exists()  # the other run's folder stays
    assert not CALLS


def test_what_is_there_and_is_no_result_is_left_alone(main, tmp_path):
    (tmp_path / "notes.txt").write_text("no result")
    with pytest.raises(InputError, match="holds no result"):
        main(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "no result" and not CALLS
    with pytest.raises(InputError, match="is a folder"):
        main(tmp_path)


@pytest.mark.parametrize("settings", [
    {}, {"n": 7, "level": 1 / 3, "shown": False, "stems": ("bass", "it's"), "name": "my songs", "seed": 12}])
def test_the_recorded_command_rebuilds_the_settings(settings, tmp_path):
    seen = []

    def note(run: Run, **given) -> dict:
        seen.append(given)
        return {}

    toy = Study("toy", measure, unsaid=("shown",))
    asked = {each.name: each.default for each in toy.parameters()} | settings
    words = shlex.split(toy.command(tmp_path / "a.json", asked))
    assert words[:4] == ["python", "-m", "msdm_lite.studies", "toy"]
    note.__signature__, note.__annotations__ = runner.inspect.signature(measure), measure.__annotations__
    tyro.cli(runner.runner_of(Study("toy", note)), args=words[4:])
    assert seen == [asked]


def test_a_name_is_taken_once():
    runner.import_all()
    with pytest.raises(InputError, match="a study 'context' already"):
        runner.study("context")(measure)
    with pytest.raises(InputError, match=r"no study 'x'; there are oracle-convergence, context"):
        runner.command_of("x")


def test_a_part_that_could_not_be_read_again_is_refused(tmp_path):
    def bad(run: Run) -> dict:
        return {"x": run.keep("x", lambda: {"path": tmp_path})}

    with pytest.raises(InputError, match="the part 'x' of a result can hold"):
        runner.runner_of(Study("bad", bad))(tmp_path / "a.json")
