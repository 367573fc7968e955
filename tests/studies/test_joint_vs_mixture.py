import json
from dataclasses import asdict
from functools import partial

import pytest
import torch

from msdm_lite.audio.io import MIX
from msdm_lite.errors import InputError
from msdm_lite.evaluation import fad
from msdm_lite.inference import generation
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.weights import build
from msdm_lite.studies import distance, joint_vs_mixture
from msdm_lite.training import loop
from msdm_lite.training.batches import encode_crops


def test_a_model_of_mixes_learns_what_the_stems_sum_to(generator):
    model = build(preset("lite-mix"))
    assert model.stems == (MIX,) and model.trained_for()
    assert not model.trained_for(mixture=True) and not model.takes_sketch
    crops = torch.randn(2, 4, (model.config.frames + 2) * 1024, generator=generator)
    found = encode_crops(model, crops)
    assert found.shape == (2, 1, 1024, model.config.frames)
    joint = encode_crops(build(preset("tiny")), crops)
    assert torch.allclose(found[..., : joint.shape[-1]], joint.sum(1, keepdim=True), atol=1e-4)
    with pytest.raises(InputError, match="lite-mix is a model of the mixture"):
        preset("lite-mix", ["drums"])


def test_both_are_of_one_size():
    """They differ in the first and the last layer and in nothing else."""
    joint, mix = (sum(p.numel() for p in build(preset(arm.preset)).parameters())
                  for arm in joint_vs_mixture.ARMS.values())
    assert mix == pytest.approx(joint, rel=0.02)


def test_two_models_are_trained_and_compared_with_the_same_songs(recipe, monkeypatch, tmp_path):
    """On a folder of stems, with embeddings in the network's place that take a moment."""
    for module in (distance, fad):
        monkeypatch.setattr(module, "embed_mixtures", lambda bands, *_: torch.stack(
            [bands.sum(1).std(1), bands.sum(1).abs().amax(1)], 1)[:, None].double())
    real = {split: torch.rand(8, 4, 3 * 22050) - 0.5 for split in ("train", "test")}
    monkeypatch.setattr(distance, "real_bands", lambda data, split, *_: (real[split], list("abcdefgh"), []))
    monkeypatch.setattr(generation, "generate", partial(generation.generate, steps=2))
    out, runs = tmp_path / "mixes.json", tmp_path / "runs"
    joint_vs_mixture.main(out, 2, 1, 8, 3.0, recipe.data, runs=runs, device="cpu")
    found = json.loads(out.read_text())
    assert list(found["arms"]) == ["joint", "mixes"] and found["device"] == "cpu"
    joint, mix = found["arms"].values()
    assert found["wall_seconds"] > sum(60 * one["minutes"] for one in found["learning"].values())
    assert found["tolerance"] == joint_vs_mixture.ANEW
    assert joint["steps"] == mix["steps"] == 2 and len(joint["sounding"]) == 4 and len(mix["sounding"]) == 1
    assert joint["train"] == mix["train"] and joint["made"] != mix["made"]
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    asked = []
    generate, stopped_at = generation.generate, 2

    def counted(*a, **k):
        asked.append(a)
        if len(asked) == stopped_at:
            raise KeyboardInterrupt
        return generate(*a, **k)

    monkeypatch.setattr(generation, "generate", counted)
    with pytest.raises(KeyboardInterrupt):  # in the second arm
        joint_vs_mixture.main(out, 2, 1, 8, 3.0, recipe.data, runs=runs, device="cpu")
    joint_vs_mixture.main(out, 2, 1, 8, 3.0, recipe.data, runs=runs, device="cpu")  # what is there is not made again
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")} == before and len(before) == 2
    again = json.loads(out.read_text())
    assert again["arms"] == found["arms"] and len(asked) == 3
    assert again["learning"]["joint"]["minutes"] == found["learning"]["joint"]["minutes"]
    stopped_at = 5
    with pytest.raises(KeyboardInterrupt):
        joint_vs_mixture.main(out, 2, 1, 8, 3.0, recipe.data, runs=runs, device="cpu")
    weights_file = runs / "joint" / "lite.safetensors"
    model = weights.load(weights_file, "cpu")
    weights.save(model, weights_file, model.record | {"minutes": 99.0})
    joint_vs_mixture.main(out, 2, 1, 8, 3.0, recipe.data, runs=runs, device="cpu")  # mixes of other weights are made
    assert len(asked) == 7 and json.loads(out.read_text())["learning"]["joint"]["minutes"] == 99


def test_runs_that_nobody_asked_for_go_when_all_is_measured(monkeypatch, tmp_path):
    """And stay as long as it is not, so that the same command goes on."""
    learned = []

    def train(recipe, folder, *_, **__):
        learned.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model = build(preset("tiny"))
        record = {"recipe": asdict(recipe), "steps": recipe.steps, "minutes": 1.0, "processor": "any",
                  "precision": "any"}
        return weights.save(model, folder / f"{recipe.preset}.safetensors", record | {"validation": 1.0})

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(distance, "real_bands", lambda *_: (torch.rand(8, 4, 3 * 22050) - 0.5, list("abcdefgh"), []))
    for module in (distance, fad):
        monkeypatch.setattr(module, "embed_mixtures", lambda bands, *_: bands.sum(1)[:, None, :3].double())
    monkeypatch.setattr(generation, "generate", stopped)
    out = tmp_path / "mixes.json"
    with pytest.raises(KeyboardInterrupt):
        joint_vs_mixture.main(out, 2, 1, 8, 3.0, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixes-parts", "mixes-runs"]
    for otherwise in ((1, 1), (2, 2)):  # fewer steps; another batch
        with pytest.raises(InputError, match="learned otherwise"):
            joint_vs_mixture.main(out, *otherwise, 8, 3.0, device="cpu")
    monkeypatch.setattr(generation, "generate", lambda *_, **__: torch.rand(8, 4, 3 * 22050) - 0.5)
    joint_vs_mixture.main(out, 2, 1, 8, 3.0, device="cpu")
    assert list(tmp_path.iterdir()) == [out] and len(learned) == 2  # the first model was not learned again


def test_too_few_mixes_are_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="the least"):
        joint_vs_mixture.main(tmp_path / "mixes.json", n=4)
