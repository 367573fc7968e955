from dataclasses import replace

import pytest
import torch

import msdm_lite
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import error
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Guided, Supervised
from msdm_lite.models.weights import build
from tests.conftest import with_effect


@pytest.fixture(scope="module")
def guided() -> Guided:
    torch.manual_seed(0)
    return with_effect(build(replace(preset("tiny"), task="guided")))


def test_the_mixture_has_an_effect_and_is_the_sum(guided):
    x, sigma = 0.05 * torch.randn(2, 4, 1024, 8), torch.tensor([0.5, 3.0])
    y = 0.1 * torch.randn(2, 1024, 8)
    conditional, alone = guided.denoise(x, sigma, Conditioning.none(x, mixture=y)), guided.denoise(x, sigma)
    assert torch.allclose(conditional.sum(1), y, atol=1e-5)
    assert (alone.sum(1) - y).abs().max() > 0.1 and (conditional - alone).abs().max() > 0.01


def test_other_conditioning_is_refused(guided):
    x = torch.zeros(1, 4, 1024, 8)
    for conditioning in (Conditioning.on_mixture(x), Conditioning.on_stems(x, [1])):
        with pytest.raises(InputError, match="method guided"):
            guided.denoise(x, torch.ones(1), conditioning)


def test_the_loss_conditions_some_items_and_not_others(guided):
    x, noise = 0.05 * torch.randn(2, 4, 1024, 8), torch.randn(2, 4, 1024, 8)
    sigma = torch.tensor([0.5, 0.5])
    conditioning = Conditioning(torch.tensor([True, False]), torch.zeros(2, 4, dtype=torch.bool))
    got = guided.loss(x, sigma, conditioning, noise)
    noisy = add_noise(x, sigma, n=noise)
    for item, conditions in ((0, {"mixture": x.sum(1)[:1]}), (1, {})):
        one = slice(item, item + 1)
        estimate = guided.denoise(noisy[one], sigma[one], Conditioning.none(noisy[one], **conditions))
        assert torch.allclose(got[one], error(estimate, x[one], sigma[one], guided.denoiser.std), rtol=1e-4)


def test_songs_of_any_length_are_separated_with_guidance(guided):
    mix = 0.1 * torch.randn(90_000)  # longer than a window
    once = msdm_lite.separate(mix, guided, steps=1)
    assert torch.allclose(once.sum(0), mix, atol=1e-4)  # the conditional estimate sums to the mixture
    more = msdm_lite.separate(mix, guided, "guided", steps=2, weight=1.5)
    assert more.shape == (4, 90_000) and more.isfinite().all() and not torch.allclose(more, once, atol=1e-3)
    assert msdm_lite.separate(mix, guided, "dirac", steps=2, corrections=1).isfinite().all()  # it is also a prior
    with pytest.raises(InputError, match="not trained with a mixture known"):
        msdm_lite.separate(mix, guided, "mixture-constrained")


def test_it_is_saved_and_loaded_as_what_it_is(guided, tmp_path):
    loaded = weights.load(weights.save(guided, tmp_path / "g.safetensors", {}), "cpu")
    assert isinstance(loaded, Guided) and loaded.takes_mixture and not loaded.trained_for(mixture=True)


@pytest.fixture(scope="module")
def supervised() -> Supervised:
    torch.manual_seed(0)
    return with_effect(build(replace(preset("tiny"), task="separate")))


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


def test_a_supervised_model_is_saved_and_loaded_as_what_it_is(supervised, tmp_path):
    path = weights.save(supervised, tmp_path / "s.safetensors", {"steps": 1})
    loaded = weights.load(path, "cpu")
    assert isinstance(loaded, Supervised) and loaded.trained_for(mixture=True) and not loaded.trained_for()
    with pytest.raises(InputError, match="no task 'magic'"):
        build(replace(preset("tiny"), task="magic"))
