"""What every front end promises."""

import pytest
import torch

from msdm_lite.audio.transforms import MDCT, Blocks, Compressed

T = 4096


def music(count=6, seed=0):
    """Sounds with a falling spectrum, like music's."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft(torch.randn(count, T, generator=generator)) / (1 + torch.arange(T // 2 + 1) / 40) ** 2
    return torch.fft.irfft(spectrum, T)


FRONTS = {"blocks": lambda: Blocks(128), "mdct": lambda: MDCT(128),
          "compressed": lambda: Compressed.fit(MDCT(128), music(), 64)}


@pytest.mark.parametrize("name", FRONTS)
def test_sums_stay_sums_and_gradients_flow(name):
    front, x = FRONTS[name](), music(4)
    assert torch.allclose(front.forward(x).sum(0), front.forward(x.sum(0)), atol=1e-5)
    assert front.forward(x).shape == (4, front.bins, T // 128)
    x = x.clone().requires_grad_()
    front.inverse(front.forward(x)).square().sum().backward()
    # Of an orthonormal map and back, half the slope of the energy is the sound itself: what was kept of it
    assert torch.allclose(x.grad / 2, front.inverse(front.forward(x.detach())), atol=1e-5)


@pytest.mark.parametrize("name", ["blocks", "mdct"])
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_orthonormal_to_a_millionth(name, dtype, bound):
    """Back again, energies, and angles between sounds: relative errors in the precision that is used."""
    front, x = FRONTS[name](), music().to(dtype)
    there = front.forward(x)
    back, there, x = front.inverse(there).double(), there.double(), x.double()  # sums are not what is tested
    assert (back - x).norm() / x.norm() < bound
    assert abs(there.norm() / x.norm() - 1) < bound
    angles = there.flatten(1) @ there.flatten(1).T - x @ x.T
    assert angles.norm() / (x @ x.T).norm() < bound


@pytest.mark.parametrize("name", FRONTS)
def test_white_noise_stays_white(name):
    """3200 frames: variances and correlations to six standard errors, since they are thousands."""
    front = FRONTS[name]()
    noise = torch.randn(100, T, generator=torch.Generator().manual_seed(0))
    frames = front.forward(noise).transpose(1, 2).flatten(0, 1)
    error = (frames.T.cov() - torch.eye(front.bins)).abs().max()
    assert error < 6 * (2 / len(frames)) ** 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here to compare the CPU with")
@pytest.mark.parametrize("name", FRONTS)
def test_cpu_and_gpu_agree(name):
    front, x = FRONTS[name](), music()
    there = front.forward(x)
    assert (front.forward(x.cuda()).cpu() - there).norm() / there.norm() < 1e-6
    assert (front.inverse(there.cuda()).cpu() - front.inverse(there)).norm() / x.norm() < 1e-6
