import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.inference import encoding

LENGTHS = [1, 1023, 1024, 1025, 5000]


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_waveform_comes_back_from_its_coefficients(tiny, samples):
    """Whatever its length; a gain and its inverse leave it as it was."""
    wave = torch.randn(1, samples)
    coefficients = encoding.encode(wave, tiny)
    assert coefficients.shape == (1, *encoding.encoded_shape(tiny, samples)) and coefficients.dtype == torch.float32
    assert torch.allclose(encoding.decode(coefficients, tiny, samples), wave, atol=1e-5)
    assert torch.equal(encoding.decode(coefficients[0], tiny, samples), encoding.decode(coefficients, tiny, samples)[0])
    louder = encoding.encode(wave, tiny, 8.0)
    assert torch.allclose(louder, 8 * coefficients, atol=1e-4)
    assert torch.allclose(encoding.decode(louder, tiny, samples, 1 / 8), wave, atol=1e-5)


@pytest.mark.parametrize("samples, frames", [(1, 3), (1023, 3), (1024, 3), (1025, 4), (5000, 7)])
def test_one_silent_hop_on_each_side(tiny, samples, frames):
    """Frames of 1024 samples, rounded up, and two more; energy is that of the waveform."""
    assert encoding.encoded_shape(tiny, samples) == (1024, frames)
    wave = torch.randn(samples)
    coefficients = encoding.encode(wave, tiny)
    padded = tiny.transform.inverse(coefficients)
    assert padded.shape == (1024 * frames,)
    assert torch.allclose(padded[1024 : 1024 + samples], wave, atol=1e-5)
    assert padded[:1024].abs().max() < 1e-5 and padded[1024 + samples :].abs().max() < 1e-5
    assert coefficients.square().sum().item() == pytest.approx(wave.square().sum().item(), rel=1e-4)


def test_stems_are_encoded_one_by_one(tiny):
    waves = torch.randn(3, 3000, dtype=torch.float64)
    together = encoding.encode(waves, tiny, 0.5)
    assert together.shape == (3, *encoding.encoded_shape(tiny, 3000))
    for one, wave in zip(together, waves, strict=True):
        assert torch.equal(one, encoding.encode(wave, tiny, 0.5))
    back = encoding.decode(together[None], tiny, 3000, 2.0)
    assert back.shape == (1, 3, 3000) and torch.allclose(back[0], waves.float(), atol=1e-5)


def test_stems_that_are_not_given_are_silent(tiny):
    bass, piano = torch.randn(2, 3000)
    found = encoding.encode_stems({3: piano, 0: bass}, tiny, 3000, 2.0)
    assert found.shape == (1, 4, *encoding.encoded_shape(tiny, 3000))
    assert not found[0, 1:3].any()
    assert torch.equal(found[0, 0], encoding.encode(bass, tiny, 2.0))
    assert torch.equal(found[0, 3], encoding.encode(piano, tiny, 2.0))


def test_samples_that_cannot_be_encoded_are_refused(tiny):
    """A tenth of a second is 2205 samples."""
    encoding.check_samples(torch.zeros(2, 2205), tiny)
    with pytest.raises(InputError, match=r"the mixture: 0\.100 s is too short"):
        encoding.check_samples(torch.zeros(2204), tiny)
    for value in (torch.nan, torch.inf):
        wave = torch.zeros(2, 5000)
        wave[1, 4999] = value
        with pytest.raises(InputError, match="drums has samples that are not finite"):
            encoding.check_samples(wave, tiny, "drums")
