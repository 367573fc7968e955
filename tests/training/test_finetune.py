from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.weights import build
from msdm_lite.training import loop
from msdm_lite.training.finetune import start_from
from msdm_lite.training.recipe import Recipe
from tests.conftest import losses


def test_a_run_can_start_with_the_weights_of_another(recipe, tmp_path):
    first = loop.train(recipe, tmp_path / "first", progress=False)
    path = loop.train(replace(recipe, start=str(first), steps=9), tmp_path / "second", progress=False)
    assert list(losses(tmp_path / "second")) == [7, 8, 9]  # what the first had done counts, and its crops are past
    before, after = weights.load(first), weights.load(path)
    assert after.record["steps"] == 9 and after.record["before"] == before.record
    assert f"--start {first}" in after.record["command"]
    assert torch.equal(after.denoiser.std, before.denoiser.std)
    own = dict(after.named_parameters())
    assert 0 < max((own[name] - value).abs().max() for name, value in before.named_parameters()) < 0.1
    for other, says in ((replace(recipe, start=str(first)), "6 steps behind it"),
                        (replace(recipe, start=str(first), preset="lite", steps=9), "is no lite"),
                        (replace(recipe, start=str(first), stems=("bass",), steps=9), "is no tiny of bass"),
                        (replace(recipe, start="nowhere", steps=9), "no model 'nowhere'")):
        with pytest.raises(InputError, match=says):
            loop.train(other, tmp_path / "third", progress=False)
    assert not (tmp_path / "third").exists()


def test_it_begins_by_ignoring_the_sketch(tiny, decoder):
    """Weights for what is new begin at zero: the same answers as before, with a sketch and without."""
    x, sigma = torch.randn(2, 4, 1024, 48), torch.tensor([0.1, 1.0])
    for conditioning in (None, Conditioning.on_mixture(x), Conditioning.on_stems(x, [0, 2])):
        want = tiny.denoise(x, sigma, conditioning)
        torch.testing.assert_close(decoder.denoise(x, sigma, conditioning), want, rtol=1e-4, atol=1e-5)
        found = decoder.denoise(x, sigma, conditioning, sketch=torch.randn(2, 4, 96, 48))
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_weights_of_other_sizes_are_refused(tiny):
    small = build(replace(tiny.config, widths=(16, 48, 64)))
    with pytest.raises(InputError, match="other sizes"):
        start_from(tiny, small, Recipe(preset="tiny", steps=10**9), tiny.stems)
