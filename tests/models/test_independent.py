from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.independent import IndependentModels
from msdm_lite.models.joint import Model


def single(name: str, seed: int = 0, **changes) -> Model:
    torch.manual_seed(seed)
    model = Model(replace(preset("tiny"), stems=(name,), **changes), 0.01 + 0.05 * torch.rand(1, 1024))
    for layer in model.denoiser.net.space_to_depth.project_out:
        torch.nn.init.normal_(layer.weight, std=0.05)
    return model.eval().requires_grad_(False)


def test_every_stem_is_denoised_by_its_own_model_alone():
    models = [single("drums", 1), single("bass", 2)]
    joined = IndependentModels(models)
    assert joined.stems == ("drums", "bass") and joined.variance.shape == (2, 1024, 1)
    x, sigma = 0.05 * torch.randn(2, 2, 1024, 8), torch.tensor([0.1, 1.0])
    got = joined.denoise(x, sigma, Conditioning.none(x))
    for n, model in enumerate(models):
        assert torch.equal(got[:, n : n + 1], model.denoise(x[:, n : n + 1], sigma))
    other = x.clone()
    other[:, 1] += 1
    assert torch.equal(joined.denoise(other, sigma)[:, 0], got[:, 0])


def test_a_folder_of_models_gives_independent_models(tmp_path):
    for n, name in enumerate(("piano", "bass", "guitar", "drums")):
        weights.save(single(name, n), tmp_path / f"{name}.safetensors", {"steps": n})
    joined = weights.load(tmp_path)
    assert joined.stems == ("bass", "drums", "guitar", "piano")
    assert joined.record["models"]["piano"] == {"steps": 0} and joined.record["steps"] == 0 + 1 + 2 + 3
    assert joined.segment == single("bass").segment


def test_refused_sets_of_models(tmp_path):
    for models, says in (([], "at least one"), ([single("bass"), single("bass")], "of one stem each, not bass, bass"),
                         ([single("bass"), single("drums", frames=24)], "bass, drums have different front ends")):
        with pytest.raises(InputError, match=says):
            IndependentModels(models)
    with pytest.raises(InputError, match="there is no model"):
        weights.load(tmp_path)


def test_independent_models_take_no_conditioning():
    x = torch.zeros(1, 1, 1024, 4)
    with pytest.raises(InputError, match="noise on all stems only"):
        IndependentModels([single("bass")]).denoise(x, torch.ones(1), Conditioning.on_mixture(x))
