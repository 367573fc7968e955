import math

import pytest
import scipy.fft
import torch

from msdm_lite.audio.transforms import MDCT, dct4, pseudo_energy
from msdm_lite.errors import InputError


def test_dct4_is_scipys():
    x = torch.randn(3, 64, dtype=torch.float64)
    expected = scipy.fft.dct(x.numpy(), type=4, norm="ortho")
    assert torch.allclose(dct4(x), torch.from_numpy(expected), atol=1e-12)


def test_forward_is_the_defining_sum():
    """Against the cosine sum written out, on a loop."""
    N, L = 16, 5
    x = torch.randn(N * L, dtype=torch.float64)
    n, k = torch.arange(2 * N).double(), torch.arange(N).double()
    window = torch.sin(math.pi * (n + 0.5) / (2 * N))
    basis = window[:, None] * torch.cos(math.pi / N * (n[:, None] + 0.5 + N / 2) * (k + 0.5)) * math.sqrt(2 / N)
    frames = torch.stack([torch.cat([x, x])[i * N : (i + 2) * N] for i in range(L)])
    assert torch.allclose(MDCT(N).forward(x), (frames @ basis).T, atol=1e-12)


@pytest.mark.parametrize("bins", [4, 512, 1024])
def test_orthonormal(bins):
    mdct, x = MDCT(bins), torch.randn(2, 3, 6 * bins)
    picture = mdct.forward(x)
    assert picture.shape == (2, 3, bins, 6)
    assert (mdct.inverse(picture) - x).abs().max() < 1e-5  # float32 rounding of two transforms
    assert abs((picture.square().sum() / x.square().sum()).item() - 1) < 1e-5
    back = torch.randn(bins, 4)
    assert (mdct.forward(mdct.inverse(back)) - back).abs().max() < 1e-5  # square: onto as well


def test_a_sum_stays_a_sum_and_white_stays_white():
    mdct, x = MDCT(256), torch.randn(4, 256 * 400)
    assert torch.allclose(mdct.forward(x).sum(0), mdct.forward(x.sum(0)), atol=1e-4)
    power = mdct.forward(x).square().mean((0, 2))  # 1600 values a bin: relative error about 3.5 %
    assert (power - 1).abs().max() < 0.2  # 5.6 standard deviations


def test_gradients_flow():
    x = torch.randn(64 * 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MDCT(64).forward, x[None, :192])


def test_pseudo_energy_is_steadier_than_the_square():
    """Of a steady sine, over time: that is what it is for."""
    wave = torch.sin(2 * math.pi * 1000.3 * torch.arange(1024 * 60) / 22050)
    picture = MDCT(1024).forward(wave)[..., 2:-2]
    row = int(1000.3 / 22050 * 2 * 1024)
    square, pseudo = picture.square()[row], pseudo_energy(picture)[row]
    assert pseudo.std() / pseudo.mean() < 0.5 * square.std() / square.mean()


def test_bad_lengths_are_refused():
    with pytest.raises(InputError, match="multiple of 4"):
        MDCT(6)
    for length in (0, 1000):
        with pytest.raises(InputError, match="multiple of 1024"):
            MDCT(1024).forward(torch.zeros(length))
