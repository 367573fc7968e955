import math

import pytest
import scipy.fft
import torch

from msdm_lite.audio.transforms import MDCT, Blocks, Compressed, dct4, pseudo_energy
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


T = 4096  # samples of the sounds that every front end is tested with


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
    assert front.forward(x).shape == (4, front.rows, T // 128)
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
    error = (frames.T.cov() - torch.eye(front.rows)).abs().max()
    assert error < 6 * (2 / len(frames)) ** 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here to compare the CPU with")
@pytest.mark.parametrize("name", FRONTS)
def test_cpu_and_gpu_agree(name):
    front, x = FRONTS[name](), music()
    there = front.forward(x)
    assert (front.forward(x.cuda()).cpu() - there).norm() / there.norm() < 1e-6
    assert (front.inverse(there.cuda()).cpu() - front.inverse(there)).norm() / x.norm() < 1e-6


def test_what_compression_loses_is_what_it_says():
    """With all components nothing; with fewer the power of those left out, and never less than for other bases."""
    mdct, x = MDCT(128), music(8)
    assert Compressed.fit(mdct, x, 128).best_sdr(x).min() > 100
    found = [Compressed.fit(mdct, x, kept) for kept in (8, 32, 96)]
    best = [front.best_sdr(x.flatten()[None]).item() for front in found]
    assert best == sorted(best) and best[0] > 0
    assert best[1] > Compressed(mdct, torch.eye(128)[:32]).best_sdr(x.flatten()[None]).item()  # the lowest 32 bins
    for front in found:
        twice = front.forward(front.inverse(front.forward(x)))
        assert torch.allclose(twice, front.forward(x), atol=1e-5)  # what was kept is kept


def test_bases_that_cannot_be():
    for wrong, says in ((lambda: Compressed(MDCT(128), torch.eye(64)), "bins is"),
                        (lambda: Compressed(MDCT(128), torch.ones(2, 128)), "not orthonormal"),
                        (lambda: Compressed.fit(MDCT(128), music(), 0), "components can be kept"),
                        (lambda: Compressed.fit(MDCT(128), [], 4), "no sounds"),
                        (lambda: Blocks(128).forward(torch.zeros(100)), "multiple of 128")):
        with pytest.raises(InputError, match=says):
            wrong()
