import json

import pytest

from msdm_lite.cli.main import main
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.weights import build
from msdm_lite.studies import model_card
from msdm_lite.utils.paths import data_folder


def test_the_card_tells_of_the_models_that_ship():
    assert (data_folder() / "weights" / "README.md").read_text() == model_card.card()
    for name in weights.shipped():
        assert not model_card.curves(name) or (data_folder() / "pictures" / f"model-{name}.png").exists()


def test_every_shipped_file_is_small_enough_and_says_how_it_was_made():
    for name in weights.shipped():
        for path in model_card.files(name):
            count, said, record = model_card.opened(path)
            assert said["preset"] in model_card.PURPOSES
            assert count == sum(p.numel() for p in weights.load(path, "cpu").state_dict().values())
            assert record["command"].startswith(f"msdm-lite train --preset {said['preset']}")


def test_runs_that_went_on_from_each_other():
    """Each line shows what its run added; the last one's totals are the model's."""
    first = {"recipe": {"batch": 8, "lr": 1e-3, "known_share": 0.5}, "steps": 100, "minutes": 10.0, "songs": 5,
             "hours_of_music": 0.5, "device": "cpu", "processor": "P", "precision": "float32", "commit": "a"}
    second = first | {"steps": 150, "minutes": 16.0, "commit": "b", "narrowed": "to less", "before": first,
                      "recipe": {"batch": 8, "lr": 1e-3, "optimizer": "muon", "shapes": [0.4, 0.3, 0.2, 0.1]}}
    runs = model_card.stretches(second)
    assert [run["commit"] for run in runs] == ["a", "b"]
    assert model_card.row(runs[0], None).startswith("| 100 | 10 | 8 | adamw | 0.001 | 0.5 / 0.5 / 0 / 0 |")
    assert model_card.row(runs[1], runs[0]).startswith("| 50 | 6 | 8 | muon | 0.001 | 0.4 / 0.3 / 0.2 / 0.1 |")
    assert "to less" in model_card.row(runs[1], runs[0])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with a bundle of two models, a log and a result."""
    monkeypatch.setattr("msdm_lite.utils.paths.data_folder", lambda: tmp_path)
    record = {"recipe": {"batch": 8, "lr": 1e-3, "shapes": [1, 0, 0, 0], "optimizer": "muon"}, "steps": 7,
              "minutes": 2.0, "songs": 5, "hours_of_music": 0.5, "device": "cpu", "precision": "float32", "commit": "a",
              "command": "msdm-lite train --preset tiny"}
    for stem in ("bass", "drums"):
        model = build(preset("tiny", (stem,)))
        weights.save(model, tmp_path / "weights" / "pair" / f"{stem}.safetensors", record)
    log = [{"step": 5, "loss": 1.0}] + [{"step": s, "val_free_0.1": 1 / s, "val_si_sdr_improvement": s} for s in (6, 7)]
    (tmp_path / "weights" / "pair.log.jsonl").write_text("\n".join(map(json.dumps, log)))
    result = {"model": "pair", "method": "dirac", "mean": 1.0, "low": 0.5, "high": 1.5, "n": 9, "command": "again"}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(json.dumps(result))
    (tmp_path / "results" / "other.json").write_text(json.dumps(result | {"model": "another"}))
    return tmp_path


def test_a_bundle_is_one_model(folder, capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()  # long purposes take several
    name, *rest = next(line for line in lines if line.startswith("pair ")).split()
    assert name == "pair" and rest[4:8] == ["4", "min,", "14", "steps"]
    assert main(["models", "--card", "--out", str(folder)]) == 0
    text = (folder / "weights" / "README.md").read_text()
    assert text.count("**Preset** `tiny` (") == 2
    assert text.count("| dirac | 1.00 [0.50, 1.50] | 9 | `again` |") == 1
    assert (folder / "pictures" / "model-pair.png").read_bytes().startswith(b"\x89PNG")


def test_every_command_has_a_folder_of_its_own():
    """Or the second one would be refused: there is a checkpoint in the first one's."""
    import re
    text = model_card.card()
    folders = re.findall(r"^msdm-lite train .* --out (\S+)$", text, re.M)
    assert len(folders) >= 10 and len(set(folders)) == len(folders)
    run = {"command": "msdm-lite train", "recipe": {"preset": "lite", "detune": 50.0}}
    assert model_card.made_by(run) == "msdm-lite train --out runs/lite"
    assert model_card.made_by(run, 2) == "msdm-lite train --out runs/lite-2"
    further = {"command": "msdm-lite train --start lite", "recipe": {"preset": "lite", "detune": 0.0, "start": "lite"}}
    assert model_card.made_by(further, 2) == "msdm-lite train --start runs/lite/lite.safetensors --out runs/lite-2"
