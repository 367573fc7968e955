from dataclasses import replace

import pytest
import torch

import msdm_lite
from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Supervised
from msdm_lite.models.weights import build
from tests.conftest import heard


@pytest.fixture(scope="module")
def supervised() -> Supervised:
    torch.manual_seed(0)
    return heard(build(replace(preset("tiny"), task="separate")))


def test_only_the_mixture_has_an_effect(supervised):
    """Whatever the stems in the state and the level: the same sum gives the same stems, which sum to it."""
    x, other = 0.05 * torch.randn(2, 2, 4, 1024, 8)
    other = other + (x - other).mean(1, keepdim=True)
    conditioning = Conditioning.on_mixture(x)
    got = supervised.denoise(x, torch.tensor([10.0, 0.1]), conditioning)
    assert torch.allclose(got, supervised.denoise(other, torch.tensor([0.3, 2.0]), conditioning), atol=1e-5)
    assert torch.allclose(got.sum(1), x.sum(1), atol=1e-5)
    assert (got - x.mean(1, keepdim=True)).abs().max() > 0.01


def test_other_tasks_are_refused(supervised):
    x = torch.zeros(1, 4, 1024, 8)
    for conditioning in (None, Conditioning.none(x), Conditioning.on_stems(x, [0], mixture=True)):
        with pytest.raises(InputError, match="only separates mixtures"):
            supervised.denoise(x, torch.ones(1), conditioning)
    with pytest.raises(InputError, match="only separates mixtures"):
        msdm_lite.generate(supervised, 0.5, steps=2)
    with pytest.raises(InputError, match="both mixture and stems"):
        msdm_lite.separate(torch.randn(9000), supervised, "mixture-constrained", given={"drums": torch.randn(9000)})


def test_one_pass_whatever_the_seed_and_steps(supervised):
    mix = 0.1 * torch.randn(30_000)
    stems = msdm_lite.separate(mix, supervised)
    assert torch.allclose(stems.sum(0), mix, atol=1e-5)
    assert torch.allclose(stems, msdm_lite.separate(mix, supervised, steps=3, seed=5), atol=1e-5)


def test_its_loss_is_one_for_a_wiener_filter_on_its_own_gaussians():
    """An untrained net is the Wiener filter; its error for Gaussians of its variances is known."""
    model = build(replace(preset("tiny"), task="separate"))
    model.denoiser.std.copy_(torch.tensor([0.1, 0.1, 0.1, 0.1])[:, None].expand(4, 1024))
    x = 0.1 * torch.randn(4, 4, 1024, 48, generator=torch.Generator().manual_seed(0))
    got = model.loss(x, torch.ones(4), Conditioning.on_mixture(x), torch.randn_like(x))
    # of four alike each keeps 3/4 of its variance; 200 000 values an item
    assert torch.allclose(got, torch.full((4,), 0.75), atol=0.01)


def test_it_is_saved_and_loaded_as_what_it_is(supervised, tmp_path):
    path = weights.save(supervised, tmp_path / "s.safetensors", {"steps": 1})
    loaded = weights.load(path, "cpu")
    assert isinstance(loaded, Supervised) and loaded.trained_for(mixture=True) and not loaded.trained_for()
    with pytest.raises(InputError, match="no task 'magic'"):
        build(replace(preset("tiny"), task="magic"))
