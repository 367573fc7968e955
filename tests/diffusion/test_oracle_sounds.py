"""Sounds of any length: the closed forms of `SpectralGaussian`, each compared with another method."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.noise import project
from msdm_lite.diffusion.oracle import SpectralGaussian, band
from tests.diffusion.test_oracle import SHAPES, conditioned, informed, knowing, observed, unknown


@pytest.fixture(params=[8, 9], ids=["even", "odd"])
def sound(request) -> SpectralGaussian:
    """Three short correlated sounds with a mean."""
    generator = torch.Generator().manual_seed(request.param)
    roots = torch.randn(request.param // 2 + 1, 3, 3, generator=generator, dtype=torch.float64)
    return SpectralGaussian(roots @ roots.mT + 0.1 * torch.eye(3, dtype=torch.float64), request.param,
                            torch.randn(3, request.param, generator=generator, dtype=torch.float64))


def dense(sound):
    """The covariance (S T, S T) written out: circulant between every two sources."""
    T, S = sound.samples, sound.covariances.shape[1]
    full = np.concatenate([sound.covariances.numpy(), sound.covariances.numpy()[1 : (T + 1) // 2][::-1]])  # all T
    dft = np.exp(-2j * np.pi * np.outer(np.arange(T), np.arange(T)) / T) / T**0.5
    blocks = np.einsum("ft,fab,fu->atbu", dft.conj(), full, dft)
    assert abs(blocks.imag).max() < 1e-12
    return blocks.real.reshape(S * T, S * T)


def test_sounds_have_the_density_of_the_circulant_gaussian(sound):
    x = torch.randn(4, 3, sound.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for level in (0.0, 0.3, 20.0):
        expected = scipy.stats.multivariate_normal(sound.mean.flatten(), dense(sound) + level**2 * np.eye(x[0].numel()))
        assert np.allclose(sound.log_density(x, level), expected.logpdf(x.flatten(1)))


@pytest.mark.parametrize("shape", SHAPES)
def test_sounds_are_denoised_as_the_circulant_gaussian_says(sound, shape):
    x = torch.randn(2, 3, sound.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma, conditioning = torch.tensor([0.2, 3.0], dtype=torch.float64), knowing(shape, B=2)
    got = sound.denoise(x, sigma, conditioning)
    free = np.kron(unknown(shape), np.eye(sound.samples))
    for row, level in enumerate(sigma.numpy()):
        expected = informed(sound.mean.flatten().numpy(), dense(sound), x[row].flatten().numpy(), free, level)
        assert np.allclose(got[row].flatten(), expected, rtol=0, atol=1e-8)
    mixture, stems = SHAPES[shape]
    assert torch.allclose(got[:, list(stems)], x[:, list(stems)], atol=1e-12)
    if mixture:
        assert torch.allclose(got.sum(1), x.sum(1), atol=1e-12)
    assert torch.allclose(sound.score(x, sigma, conditioning), (got - x) / sigma[:, None, None] ** 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_sounds_given_some(sound, shape, generator):
    x = torch.randn(3, sound.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact, rows = sound.given(x, knowing(shape)), np.kron(observed(shape), np.eye(sound.samples))
    mean, covariance = conditioned(sound.mean.flatten().numpy(), dense(sound), rows, rows @ x.flatten().numpy())
    if shape == "nothing":
        assert exact is sound
    assert np.allclose(exact.mean.flatten(), mean, atol=1e-6)
    assert np.allclose(dense(exact), covariance, atol=1e-6)
    samples = exact.sample(4000, generator).double()
    assert np.allclose(samples.flatten(1).numpy() @ rows.T, rows @ x.flatten().numpy(), atol=1e-5)  # single precision
    again = exact.given(x, knowing(shape))
    assert torch.allclose(again.mean, exact.mean) and torch.allclose(again.covariances, exact.covariances, atol=1e-10)
    far = sound.denoise(x[None], torch.tensor([1e4], dtype=torch.float64), knowing(shape))[0]
    assert torch.allclose(far, exact.mean, atol=1e-5)  # noise this loud leaves only the conditional mean
    error = (samples.mean(0) - exact.mean).abs().flatten()
    assert (error <= 4.5 * torch.from_numpy(covariance.diagonal().clip(0)).sqrt() / 4000**0.5 + 1e-5).all()


def test_the_written_out_covariance_is_circulant(sound):
    """Against scipy: the covariance of a source with another is the inverse transform of their spectrum, turned."""
    T = sound.samples
    for a, b in ((0, 0), (0, 2)):
        row = np.fft.irfft(sound.covariances[:, a, b], T)
        assert np.allclose(dense(sound)[a * T : (a + 1) * T, b * T : (b + 1) * T], scipy.linalg.circulant(row))


def test_samples_of_sounds_have_their_covariance(sound, generator):
    """Every entry is known to about sqrt(2 / count) of the variances; five of those are allowed."""
    samples = sound.sample(20_000, generator).flatten(1)
    expected = dense(sound)
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert (abs(np.cov(samples.T.numpy()) - expected) < 5 * scale * (2 / 20_000) ** 0.5).all()


def test_a_band_of_gaussians():
    music = band(2**15, context=0.4)
    stems = music.sample(4, torch.Generator().manual_seed(0))
    assert stems.shape == (4, 4, 2**15) and stems.dtype == torch.float32
    # A comb of a few lines is a few independent numbers: its power varies from draw to draw
    assert torch.allclose(stems.square().mean((0, 2)).sqrt(), torch.tensor(0.06), rtol=0.35)
    exact = music.covariances.diagonal(dim1=1, dim2=2)
    power = (2 * exact.sum(0) - exact[0] - exact[-1]) / 2**15
    assert torch.allclose(power.sqrt(), torch.tensor(0.06).double())
    between = music.covariances / (exact[:, :, None] * exact[:, None]).sqrt()
    assert torch.allclose(between[:, 0, 3], torch.tensor(0.4).double())


def test_knowing_how_sources_go_together_separates_better():
    """The right filter is the best, on average, so a filter that takes the correlated for independent loses."""
    right, wrong = band(2**14, context=0.4), band(2**14, context=0.0)
    stems = right.sample(8, torch.Generator().manual_seed(0))
    errors = []
    for source in (right, wrong):
        found = torch.stack([source.given(item, Conditioning.on_mixture(item[None])).mean for item in stems])
        assert found.dtype == torch.float32 and torch.allclose(found.sum(1), stems.sum(1), atol=1e-6)
        errors.append((found - stems).square().mean((1, 2)))
    assert (errors[0] < errors[1]).all()
    # and the error is what the covariance that is left says; bass lines make it vary by some percent an item
    exact = right.given(stems[0], Conditioning.on_mixture(stems[:1])).covariances.diagonal(dim1=1, dim2=2).sum(1)
    power = (2 * exact.sum() - exact[0] - exact[-1]) / (4 * 2**14)
    assert errors[0].mean().item() == pytest.approx(power.item(), rel=0.25)


@pytest.mark.parametrize("samples", [2, 3, 100, 101, 1024, 4097, 100_003])
def test_a_band_of_any_length_is_level(samples):
    music = band(samples)
    power = music.covariances.diagonal(dim1=1, dim2=2)
    whole = 2 * power.sum(0) - power[0] - (power[-1] if samples % 2 == 0 else 0)
    assert torch.allclose((whole / samples).sqrt(), torch.full((4,), 0.06).double())
    if samples > 100:  # the bass's lowest line is not lost between two frequencies
        hertz = torch.arange(len(power)) * 22_050 / samples
        near = (hertz - 55).abs() < max(10, 1.5 * 22_050 / samples)
        assert power[near, 0].sum() > 0.5 * power[:, 0].sum()
    x, sigma = music.sample(1, torch.Generator().manual_seed(0)), torch.tensor([0.05])
    conditioning = Conditioning(torch.tensor([True]), torch.tensor([[True, False, False, False]]))
    noisy = x + 0.05 * project(torch.randn(x.shape), conditioning)
    got = music.denoise(noisy, sigma, conditioning)
    assert got.dtype == torch.float32 and got.shape == x.shape
    assert (got[:, 0] - x[:, 0]).abs().max() < 1e-6 and (got.sum(1) - x.sum(1)).abs().max() < 1e-6
    if samples > 1000:  # shorter ones are too few numbers to tell
        assert (got - x).square().mean() < 0.5 * (noisy - x).square().mean()
