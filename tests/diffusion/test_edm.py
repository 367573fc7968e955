import pytest
import torch

from msdm_lite.diffusion.denoiser import Denoiser1d, edm_loss
from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models.unet1d import UNet1d
from tests.models.test_unet1d import LENGTH, TINY, relative


@pytest.fixture
def net() -> UNet1d:
    return UNet1d(TINY).eval()


def test_a_silent_net_is_the_wiener_filter(net):
    """And its loss on white noise of standard deviation sigma_data is one."""
    silent = Denoiser1d(net, sigma_data=0.2, clamp=False)
    torch.nn.init.zeros_(net.project_out.conv2.weight)
    torch.nn.init.zeros_(net.project_out.conv2.bias)
    net.project_out.shortcut = torch.nn.Conv1d(4, 4, 1)
    for p in net.project_out.shortcut.parameters():
        torch.nn.init.zeros_(p)
    x, sigma = 0.2 * torch.randn(2, 4, 64 * TINY.downsampling), torch.tensor([0.05, 2.0])
    expected = x * 0.04 / (0.04 + sigma.square())[:, None, None]
    assert torch.allclose(silent(x, sigma), expected, atol=1e-6)
    loss = edm_loss(silent, x, sigma, torch.Generator().manual_seed(0))
    assert loss.shape == (2,) and (loss - 1).abs().max() < 0.05  # 49152 values: 0.6 %


def test_the_estimate_is_clamped_and_has_the_type_of_x(net):
    x, sigma = 50 * torch.randn(1, 4, LENGTH), torch.tensor([20.0])
    assert Denoiser1d(net)(x, sigma).abs().max() <= 1 < Denoiser1d(net, clamp=False)(x, sigma).abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        half = Denoiser1d(net).denoise(0.2 * x / 50, torch.tensor([0.3]))
    assert half.dtype == torch.float32
    assert relative(half, Denoiser1d(net).denoise(0.2 * x / 50, torch.tensor([0.3]))) < 0.02  # bfloat16: 8 bits


def test_it_takes_no_conditioning(net):
    denoiser, x, sigma = Denoiser1d(net), torch.randn(1, 4, LENGTH), torch.ones(1)
    assert torch.equal(denoiser(x, sigma, Conditioning.none(x)), denoiser(x, sigma))
    with pytest.raises(InputError, match="noise on all stems only"):
        denoiser(x, sigma, Conditioning.on_mixture(x))
