from dataclasses import replace

import pytest
import torch

import msdm_lite
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.guidances import Conditioned, Dirac, Prior
from msdm_lite.diffusion.oracle import gaussian
from msdm_lite.errors import InputError
from msdm_lite.inference import defaults
from msdm_lite.inference.defaults import imputation_method
from msdm_lite.models import config, weights
from msdm_lite.models.base import StemModel
from msdm_lite.models.config import preset
from msdm_lite.models.independent import IndependentModels
from msdm_lite.models.unet1d import UNet1d, UNet1dConfig
from msdm_lite.models.weights import build
from tests.official import HYPER, TINY, official_state


def test_the_record_has_the_conditioning_of_training(tiny, monkeypatch):
    assert isinstance(tiny, StemModel)
    given = {"bass": 0.1 * torch.randn(9000)}
    for record, stems, both in (({}, True, True), ({"recipe": {"shapes": [0.4, 0.3, 0.3, 0.0]}}, True, False),
                                ({"recipe": {"known_share": 0.5}}, False, False)):
        monkeypatch.setattr(tiny, "record", record)
        assert tiny.trained_for() and tiny.trained_for(mixture=True)
        assert tiny.trained_for(stems=True) is stems and tiny.trained_for(mixture=True, stems=True) is both
        assert imputation_method(tiny).guidance == (Conditioned() if stems else Prior())
        assert defaults.separation_method(tiny, given=True).guidance == (Conditioned() if both else Dirac())
        if not stems:
            with pytest.raises(InputError, match="not trained with stems"):
                msdm_lite.accompany(given, tiny, method="stems-given")
        if not both:
            with pytest.raises(InputError, match="both mixture and stems"):
                msdm_lite.separate(torch.randn(9000), tiny, "mixture-constrained", given=given)


def wiener(x: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning | None = None) -> torch.Tensor:
    """A denoiser as a reader writes it in a cell: for stems of variance 1."""
    if conditioning is not None:
        conditioning.require("this function")
    return x / (1 + sigma.square())[:, None, None, None]


@pytest.fixture(scope="module")
def denoisers(tiny, sketcher, tmp_path_factory):
    """Every kind of denoiser, each with a state (2, S, rows, L) that it takes."""
    small = replace(preset("tiny"), widths=(16, 24, 32))
    wave = replace(config.WAVE_PRESETS["tiny-wave"], net=UNet1dConfig(
        channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,), attention=(0,), heads=1, head_width=8,
        groups=4, learned_patch=True, segment=4096))
    checkpoint = tmp_path_factory.mktemp("official") / "last.ckpt"
    torch.save({"epoch": 3, "hyper_parameters": dict(HYPER), "state_dict": official_state(UNet1d(TINY))}, checkpoint)
    made = {"joint": tiny, "sketch": sketcher, "wave": build(wave), "official": weights.load(checkpoint),
            "guided": build(replace(small, task="guided")), "supervised": build(replace(small, task="separate")),
            "independent": IndependentModels([build(replace(small, stems=(stem,))) for stem in ("bass", "drums")])}
    with torch.no_grad():
        found = {name: (model.denoise, 0.1 * torch.randn(2, len(model.stems), model.transform.rows, 16))
                 for name, model in made.items()}
    oracle = gaussian(torch.zeros(3), torch.eye(3))
    return found | {"oracle": (oracle.denoise, torch.randn(2, 3)), "function": (wiener, torch.randn(2, 3, 4, 5))}


@pytest.mark.parametrize("name", ["joint", "sketch", "wave", "official", "guided", "supervised", "independent",
                                  "oracle", "function"])
@torch.no_grad()
def test_every_denoiser_obeys_one_contract(denoisers, name):
    """(x, sigma, conditioning) -> x0 like x; x stays; without conditioning nothing is known; others are refused."""
    denoise, x = denoisers[name]
    sigma, before = torch.tensor([0.05, 0.5]).to(x), x.clone()
    known = Conditioning.on_mixture(x) if name == "supervised" else Conditioning.none(x)
    found = denoise(x, sigma, known)
    assert found.shape == x.shape and found.dtype == x.dtype and found.isfinite().all()
    assert torch.equal(x, before) and not torch.equal(found, x)
    assert torch.equal(denoise(x, sigma, conditioning=known), found)
    if name != "supervised":  # which separates, and does nothing else
        assert torch.equal(denoise(x, sigma), found)
    alone = denoise(x[1:], sigma[1:], known.items(torch.tensor([1])))
    torch.testing.assert_close(alone, found[1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="cannot be conditioned on the lead sheet"):
        denoise(x, sigma, known.with_conditions(lead_sheet=torch.zeros(2, 5)))
