"""The contract of front ends, held by every one that ships and by a short-time Fourier transform of the test's own."""

import pytest
import torch
import torch.nn.functional as F

from msdm_lite.audio.front_end import lead, segment, segment_samples
from msdm_lite.audio.transforms import MDCT, Blocks, Compressed


class Stft:
    """A toy front end: real and imaginary parts of frames of 256 samples, with another hop than rows."""

    hop, rows = 64, 2 * 129
    window = torch.hann_window(256)

    def length(self, samples):
        return -(-samples // self.hop) + 2

    def encode(self, wave):
        padded = F.pad(wave, (self.hop, self.hop * (self.length(wave.shape[-1]) - 2) - wave.shape[-1]))
        spectra = torch.stft(padded.flatten(0, -2), 256, self.hop, window=self.window, return_complex=True)
        return torch.cat([spectra.real, spectra.imag], -2).unflatten(0, wave.shape[:-1])

    def decode(self, coefficients, samples):
        real, imaginary = coefficients.flatten(0, -3).chunk(2, -2)
        wave = torch.istft(torch.complex(real, imaginary), 256, self.hop, window=self.window)
        return wave[:, self.hop : self.hop + samples].unflatten(0, coefficients.shape[:-2])


FRONT_ENDS = {"mdct": MDCT(256), "blocks": Blocks(128), "stft": Stft(), "compressed": Compressed(
    MDCT(64), torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0])}


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("samples", [300, 1024, 5000])
def test_a_sound_comes_back(name, samples):
    front_end, wave = FRONT_ENDS[name], torch.randn(2, 3, samples)
    coefficients = front_end.encode(wave)
    assert coefficients.shape == (2, 3, front_end.rows, front_end.length(samples))
    assert torch.allclose(front_end.decode(coefficients, samples), wave, atol=1e-4)
    assert torch.allclose(front_end.encode(wave.sum(1)), coefficients.sum(1), atol=1e-3)  # linear


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_segment_has_no_edges(name):
    """It is the same, whatever sounds before and after the crop."""
    front_end, frames = FRONT_ENDS[name], 20
    samples, around = segment_samples(front_end, frames), 8 * front_end.hop
    wave = torch.randn(2, samples + 2 * around)
    alone = segment(front_end, wave[:, around : around + samples], frames)
    within = front_end.encode(wave)[..., 8 + lead(front_end) :][..., :frames]
    if name == "stft":  # its windows are four hops long: two frames on each side see the edge
        alone, within = alone[..., 2:-2], within[..., 2:-2]
    assert alone.shape == (2, front_end.rows, frames) or name == "stft"
    assert torch.allclose(alone, within, atol=1e-4)
