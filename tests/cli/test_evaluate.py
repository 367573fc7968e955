import json

import pytest

from msdm_lite.cli import evaluate, main
from msdm_lite.evaluation import band_quality, separation_quality


@pytest.mark.parametrize("args, says", [
    (("--n", "3"), "--n has no use here: separate of clips"), (("--seconds", "3"), "--seconds has no use"),
    (("--whole",), "--whole has no use"), (("--chunks",), "--chunks has no use"),
    (("--sketch", "lite-sketch"), "--sketch has no use"),
    (("--task", "generate", "--given", "bass"), "--given has no use here: generate of clips"),
    (("--task", "generate", "--songs", "band"), "--songs has no use here: generate of songs"),
    (("--songs", "band", "--given", "bass"), "--given has no use here: separate of songs"),
    (("--songs", "band", "--whole", "--seconds", "3"), "--seconds has no use here: separate of songs, whole"),
    (("--songs", "band", "--clips", "band"), "--clips has no use"),
    (("--task", "accompany", "--clips", "composed"), "--clips has no use"),
    (("--songs", "band", "--method", "ideal-mask", "--model", "tiny"), "--model has no use"),
    (("--songs", "band", "--seconds", "0"), "0.0 s cannot be scored"),
    (("--songs", "band", "--method", "ideal-mask", "--steps", "3"), "it has no settings")])
def test_options_that_a_task_does_not_read_are_refused(args, says, capsys):
    assert main.main(["evaluate", *args]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_a_result_s_place_is_tried_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("msdm_lite.evaluation.separation_quality.evaluate_clips", lambda *_args,
                        **_settings: pytest.fail("it worked first"))
    (tmp_path / "file").touch()
    for out, says in ((tmp_path, "is a folder, and should be a file"), (tmp_path / "file" / "a.json", "not a folder")):
        assert main.main(["evaluate", "--out", str(out)]) == 2
        assert says in capsys.readouterr().err


def test_clips_are_scored_with_the_settings_that_were_given(monkeypatch, tmp_path, capsys):
    """A setting of 0 is passed on, one that was left out is not; the record has all digits, the summary two."""
    calls = []

    def score(*arguments, **settings):
        calls.append((arguments, settings))
        return {"method": "dirac", "mean": 3.14159, "low": 2.0, "high": 4.0, "n": 9}

    monkeypatch.setattr(separation_quality, "evaluate_clips", score)
    evaluate.evaluate(method="dirac", clips="composed", steps=7, churn=0.0, constrained_stem=2, seed=5, device="cpu",
                      given=("bass",), out=tmp_path / "new" / "result.json")
    arguments, settings = calls.pop()
    assert arguments == ("dirac", "lite", "composed")
    assert settings == {"seed": 5, "on": "cpu", "progress": False, "given": ("bass",), "steps": 7, "churn": 0.0,
                        "constrained_stem": 2}
    assert capsys.readouterr().out.splitlines()[-1] == "dirac: 3.14 dB [2.00, 4.00], n = 9"
    assert json.loads((tmp_path / "new" / "result.json").read_text())["mean"] == 3.14159
    evaluate.evaluate()
    assert calls.pop() == ((None, "lite", "band"), {"seed": 0, "on": "auto", "progress": False, "given": ()})


def test_a_summary_without_an_interval(monkeypatch, capsys):
    monkeypatch.setattr(separation_quality, "evaluate_clips",
                        lambda *_, **__: {"method": "wiener", "mean": -1.0, "low": None, "high": None, "n": 2})
    evaluate.evaluate()
    assert capsys.readouterr().out == "wiener: -1.00 dB, n = 2\n"


@pytest.mark.parametrize("options, seconds", [({}, 12.0), ({"seconds": 3.5}, 3.5), ({"whole": True}, None)])
def test_songs_are_scored_in_excerpts_or_whole(monkeypatch, capsys, options, seconds):
    calls = []

    def score(*arguments, **settings):
        calls.append((arguments, settings))
        return {kind: {"all": {"mean": mean}} for kind, mean in (("per_window", 1.25), ("active", -2.5))} | {
            "n": 6, "left_out": {}}

    monkeypatch.setattr(separation_quality, "evaluate_songs", score)
    evaluate.evaluate(method="gaussian", songs="composed", n=6, c=0.5, **options)
    assert calls == [((separation_quality.Songs("composed", 6, seconds, stems=()), "lite", "gaussian"),
                      {"seed": 0, "on": "auto", "progress": False, "c": 0.5})]
    assert capsys.readouterr().out == "as published 1.25 dB; active stems -2.50 dB, n = 6 songs\n"


def test_help_names_the_files_of_the_official_code(capsys):
    with pytest.raises(SystemExit):
        main.main(["evaluate", "--help"])
    assert ".ckpt" in capsys.readouterr().out


@pytest.mark.parametrize("task, options, n, given", [
    ("generate", {}, 24, ()), ("accompany", {"n": 8}, 8, ("bass", "drums")),
    ("accompany", {"given": ("piano",)}, 24, ("piano",))])
def test_bands_are_24_around_bass_and_drums_by_default(monkeypatch, capsys, task, options, n, given):
    calls = []

    def score(*arguments, **settings):
        calls.append((arguments, settings))
        return {"audible": {"all": 0.375}, "n": n}

    monkeypatch.setattr(band_quality, "evaluate_bands", score)
    evaluate.evaluate(task=task, sketch="lite-sketch", weight=2.0, **options)
    assert calls == [(("lite", n), {"given": given, "seed": 0, "on": "auto", "progress": False,
                                    "sketch": "lite-sketch", "method": None, "weight": 2.0})]
    said = capsys.readouterr().out
    assert said.startswith(f"{task}: ") and "38 %" in said and said.endswith(f"n = {n}\n")
