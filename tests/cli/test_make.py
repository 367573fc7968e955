import re

import pytest

from msdm_lite.cli import main, make


@pytest.mark.parametrize("args, says", [(("build", "--source", "nope"), "nope"),
                                        (("build", "--variations", "-1"), "from 0"),
                                        (("compose", "--songs", "0"), "at least one song")])
def test_bad_requests_are_one_line(args, says, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    assert main.main(["data", *args, "--out", str(tmp_path / "o")]) != 0
    printed = capsys.readouterr().err
    assert printed.strip() and says in printed and "Traceback" not in printed
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name, shown", [("methods", ["mixture-constrained", "dirac", "replacement", "ode"]),
                                         ("models", ["lite", "tiny-wave", "lite-independent"])])
def test_tables_fit_100_columns(name, shown, capsys):
    assert main.main([name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert all(any(re.search(rf"(^|\s){word}\s", line) for line in lines) for word in shown)


def test_methods_are_listed_with_their_network_evaluations(capsys):
    """Levels times corrections; heun is no default."""
    make.methods()
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["task", "method", "NFE"]
    for row in (["separate", "mixture-constrained", "1"], ["separate", "dirac", "300"], ["separate", "projdiff", "150"],
                ["generate", "paper", "150"], ["accompany", "replacement", "256"]):
        assert row in rows


def test_long_cells_go_on_below_themselves():
    words = " ".join(f"word{i}" for i in range(40))
    lines = make._table([["a", "bb", words], ["c", "d", ""]], (3, 5)).splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= make.WIDTH
    assert lines[0].startswith("a   bb    word0 ") and lines[-1] == "c   d"
    assert all(line.startswith(" " * 10 + "word") for line in lines[1:-1])
    assert " ".join(line[10:] for line in lines[:-1]) == words


@pytest.mark.parametrize("words, name, work", [
    (("data", "compose"), "band.tsv", "msdm_lite.data.band_songs.write"),
    (("data", "clips"), "clips.json", "msdm_lite.data.example_clips.write"),
    (("data", "card"), "results/corpus.json", "msdm_lite.studies.data_card.write"),
    (("models", "--card"), "weights/README.md", "msdm_lite.studies.model_card.write")])
def test_files_of_the_user_are_not_written_over(tmp_path, monkeypatch, capsys, words, name, work):
    called = []
    monkeypatch.setattr(work, lambda out, *_, **__: called.append(out) or out)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert main.main([*words, "--out", str(tmp_path)]) == 2
    assert f"{name} is there already" in capsys.readouterr().err and not called
    assert main.main([*words, "--out", str(tmp_path), "--overwrite"]) == 0 and called == [tmp_path]
    assert main.main([*words, "--out", str(tmp_path / "new")]) == 0
