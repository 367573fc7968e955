from dataclasses import replace

import pytest
import torch

from msdm_lite import train, weights
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import build
from msdm_lite.recipe import Recipe
from msdm_lite.start import begin_with
from tests.conftest import losses


def test_a_run_can_start_with_the_weights_of_another(recipe, tmp_path):
    first = train.train(recipe, tmp_path / "first", progress=False)
    path = train.train(replace(recipe, start=str(first), steps=9), tmp_path / "second", progress=False)
    assert list(losses(tmp_path / "second")) == [7, 8, 9]  # what the first had done counts, and its crops are past
    before, after = weights.load(first), weights.load(path)
    assert after.record["steps"] == 9 and after.record["before"] == before.record
    assert f"--start {first}" in after.record["command"]
    assert torch.equal(after.denoiser.deviation, before.denoiser.deviation)
    own = dict(after.named_parameters())
    assert 0 < max((own[name] - value).abs().max() for name, value in before.named_parameters()) < 0.1
    for other, says in ((replace(recipe, start=str(first)), "6 steps behind it"),
                        (replace(recipe, start=str(first), preset="lite", steps=9), "is no lite"),
                        (replace(recipe, start=str(first), stems=("bass",), steps=9), "is no tiny of bass"),
                        (replace(recipe, start="nowhere", steps=9), "no model 'nowhere'")):
        with pytest.raises(InputError, match=says):
            train.train(other, tmp_path / "third", progress=False)
    assert not (tmp_path / "third").exists()


def test_it_begins_by_ignoring_the_sketch(tiny, painter):
    """Weights for what is new begin at zero: the same answers as before, with a sketch and without."""
    x, sigma = torch.randn(2, 4, 1024, 48), torch.tensor([0.1, 1.0])
    for known in (None, Known.the_mixture(x), Known.these(x, [0, 2])):
        want = tiny.denoise(x, sigma, known)
        torch.testing.assert_close(painter.denoise(x, sigma, known), want, rtol=1e-4, atol=1e-5)
        told = painter.denoise(x, sigma, known, sketch=torch.randn(2, 4, 96, 48))
        torch.testing.assert_close(told, want, rtol=1e-4, atol=1e-5)


def test_weights_of_other_sizes_are_refused(tiny):
    small = build(replace(tiny.config, widths=(16, 48, 64)))
    with pytest.raises(InputError, match="other sizes"):
        begin_with(tiny, small, Recipe(preset="tiny", steps=10**9), tiny.stems)
