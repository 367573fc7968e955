import copy
from dataclasses import replace

import pytest
import torch

from msdm_lite.audio import beats
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.inference import cascade
from msdm_lite.models.config import PRESETS
from msdm_lite.models.sketcher import SketchDenoiser
from msdm_lite.models.weights import build


def test_an_untrained_sketcher_is_a_wiener_filter_and_keeps_what_is_known(sketcher):
    x, sigma = torch.randn(2, 4, 96, 30), torch.tensor([0.5, 2.0])
    s2 = sigma.square()[:, None, None, None]
    torch.testing.assert_close(sketcher.denoise(x, sigma), x / (1 + s2))
    conditioning = Conditioning.on_stems(x, [1, 3])
    got = sketcher.denoise(x, sigma, conditioning)
    assert torch.equal(got[:, [1, 3]], x[:, [1, 3]])
    torch.testing.assert_close(got[:, [0, 2]], (x / (1 + s2))[:, [0, 2]])


def test_its_loss_is_one_for_white_sketches(sketcher):
    """The error of a filter of white data of variance one is its posterior variance: 4 * 96 * 120 numbers, to 2 %."""
    torch.manual_seed(0)
    x = torch.randn(4, 4, 96, 120)
    conditioning = Conditioning.on_stems(x, [0])
    for k in (Conditioning.none(x), conditioning):
        value = sketcher.loss(x, torch.full((4,), 0.7), k, torch.randn_like(x)).mean().item()
        assert abs(value - 1) < 0.02


def test_the_beat_phase_has_an_effect(sketcher):
    """An untrained model ignores it; with weights that are not zero it changes the estimate."""
    x, sigma = torch.randn(2, 4, 96, 30), torch.tensor([0.5, 2.0])
    count = beats.steady(30, 0.05, 120)[None].expand(2, -1, -1)
    found = sketcher.denoise(x, sigma, Conditioning.none(x, beat_phase=count))
    torch.testing.assert_close(found, sketcher.denoise(x, sigma))
    moved = copy.deepcopy(sketcher)
    torch.manual_seed(1)
    for layer in moved.denoiser.net.space_to_depth.project_out:
        layer.weight.data.add_(0.05 * torch.randn_like(layer.weight))
    nobody = moved.denoise(x, sigma)
    assert (moved.denoise(x, sigma, Conditioning.none(x, beat_phase=count)) - nobody).abs().max() > 1e-3
    torch.testing.assert_close(moved.denoise(x, sigma, Conditioning.none(x, beat_phase=beats.silent(x))), nobody)


def test_a_model_without_beat_conditioning_refuses_a_beat_phase():
    small = replace(PRESETS["lite-sketch"], widths=(16, 24), blocks=(1, 1), embedding_width=16)
    without = build(replace(small, beat_phase=False))
    assert not without.takes_beat_phase and cascade.beat_conditioning(without, 10, torch.Generator()) is None
    x = torch.zeros(1, 4, 96, 8)
    with pytest.raises(InputError, match="beat conditioning"):
        without.denoise(x, torch.ones(1), Conditioning.none(x, beat_phase=torch.zeros(1, 4, 8)))


@pytest.mark.parametrize("beat_phase", [False, True])
def test_a_denoiser_of_sketches_has_edms_preconditioning_for_each_band(beat_phase):
    """Written out, with a net whose output is one: its input has variance one, and given stems no noise."""
    seen = []

    class Ones(torch.nn.Module):
        def forward(self, x, embedding):
            seen.append((x, embedding.shape))
            return torch.ones(len(x), 2, *x.shape[2:])

    std = 0.5 + torch.rand(2, 5)
    denoiser = SketchDenoiser(Ones(), std, 8, beat_phase)
    x, sigma, phase = torch.randn(3, 2, 5, 7), torch.tensor([0.1, 1.0, 30.0]), torch.randn(3, 4, 7)
    got = denoiser(x, sigma, Conditioning.on_stems(x, [1]), phase if beat_phase else None)
    v, s2 = std[0].square()[:, None], sigma.square()[:, None, None]
    assert torch.equal(got[:, 1], x[:, 1])
    torch.testing.assert_close(got[:, 0], v / (v + s2) * x[:, 0] + (v * s2 / (v + s2)).sqrt())
    inputs, embedded = seen.pop()
    assert inputs.shape == (3, 6 if beat_phase else 2, 5, 7) and embedded == (3, 8)
    torch.testing.assert_close(inputs[:, 0], x[:, 0] / (v + s2).sqrt())
    torch.testing.assert_close(inputs[:, 1], x[:, 1] / std[1][:, None])
    for row in range(5 if beat_phase else 0):  # the same at every band
        assert torch.equal(inputs[:, 2:, row], phase)
