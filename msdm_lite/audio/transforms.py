"""Front ends: orthonormal maps between a waveform and the coefficients that models work on.

`MDCT` is a circular, orthonormal MDCT: a waveform becomes an MDCT spectrogram (bins, frames), and back. `Blocks` cuts a
waveform into blocks without any transform. `Compressed` keeps the first principal components of MDCT frames.

Under an orthonormal map white noise remains white at the same noise level, the sum of the stems remains their sum, and
distances do not change. So all formulas for waveforms (Mariani et al., arXiv 2302.02257) hold for the coefficients too.
`Compressed` loses what lies outside its components, and no model can restore it. Chapter: `book/04-joint-unet.ipynb`.

Sources: Princen, Johnson and Bradley, ICASSP 1987 (the lapped transform); Daudet and Sandler, IEEE TSAP 2004 (the
pseudo-spectrum).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from msdm_lite.audio.front_end import FRONT_ENDS
from msdm_lite.errors import InputError


def dct4(x: Tensor) -> Tensor:
    """Orthonormal DCT-IV of the last axis (even length N), its own inverse: one complex FFT of N/2 points."""
    N = x.shape[-1]
    n = torch.arange(N // 2, device=x.device, dtype=x.dtype)
    turn = torch.polar(torch.ones_like(n), -math.pi / N * (n + 0.125))
    z = torch.fft.fft(torch.complex(x[..., ::2], x.flip(-1)[..., ::2]) * turn) * turn  # (..., N/2)
    return torch.stack([z.real, -z.imag.flip(-1)], -1).flatten(-2) * math.sqrt(2 / N)


def in_blocks(wave: Tensor, length: int) -> Tensor:
    """Cut (..., T) into blocks (..., T / length, length).

    Raises:
        InputError: T is no positive multiple of the length.
    """
    T = wave.shape[-1]
    if T == 0 or T % length:
        raise InputError(f"the length {T} is no positive multiple of {length}: pad the waveform first")
    return wave.unflatten(-1, (T // length, length))


class Framed(ABC):
    """`encode`, `decode` and `length` of a front end whose circular `forward` and `inverse` take whole frames.

    `lead` frames of silence are added on each side. Where frames overlap it is one: the transform is circular, and the
    end must not sound in the beginning.
    """

    hop: int
    rows: int
    lead = 1

    def length(self, samples: int) -> int:
        """The number of frames that `encode` returns for so many samples."""
        return -(-samples // self.hop) + 2 * self.lead

    def encode(self, wave: Tensor) -> Tensor:
        """(..., T) of any length -> (..., rows, length(T)), in single precision."""
        edge = self.lead * self.hop
        return self.forward(F.pad(wave.float(), (edge, edge + -wave.shape[-1] % self.hop))).contiguous()

    def segment(self, wave: Tensor, frames: int) -> Tensor:
        """(..., (frames + 2) * hop) -> (..., rows, frames): the circular transform without the frames that wrap."""
        return self.forward(wave)[..., :frames]

    def decode(self, coefficients: Tensor, samples: int) -> Tensor:
        """(..., rows, L) -> (..., samples)."""
        return self.inverse(coefficients)[..., self.lead * self.hop :][..., :samples]

    @abstractmethod
    def forward(self, wave: Tensor) -> Tensor:
        """(..., T), T a multiple of `hop`, -> (..., rows, T / hop)."""

    @abstractmethod
    def inverse(self, coefficients: Tensor) -> Tensor:
        """(..., rows, L) -> (..., L * hop)."""


@FRONT_ENDS.register("mdct")
class MDCT(Framed):
    """Circular MDCT with `bins` bins, hop `bins`, sine window.

    `forward` maps (..., T), T a multiple of `bins`, to (..., bins, T / bins); `inverse` is its inverse. The last frame
    overlaps the first, which makes the map square and orthonormal.

    Raises:
        InputError: `bins` is no positive multiple of 4.
    """

    def __init__(self, bins: int = 1024):
        if bins < 4 or bins % 4:
            raise InputError(f"an MDCT needs a multiple of 4 bins, not {bins}")
        self.bins = self.hop = self.rows = bins
        self.window = torch.sin(math.pi * (torch.arange(2 * bins, dtype=torch.float64) + 0.5) / (2 * bins))

    def forward(self, wave: Tensor) -> Tensor:
        """The MDCT spectrogram: (..., T) -> (..., bins, T / bins).

        Raises:
            InputError: T is no positive multiple of `bins`.
        """
        N, blocks = self.bins, in_blocks(wave, self.bins)  # (..., L, N)
        window = self.window.to(wave)
        first, second = blocks * window[:N], blocks.roll(-1, -2) * window[N:]
        a, b = first.chunk(2, -1)
        c, d = second.chunk(2, -1)
        folded = torch.cat([-c.flip(-1) - d, a - b.flip(-1)], -1)  # with aliasing, which overlap-add cancels
        return dct4(folded).transpose(-1, -2)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """(..., bins, L) -> (..., L * bins)."""
        N = self.bins
        window = self.window.to(coefficients)
        right, left = dct4(coefficients.transpose(-1, -2)).chunk(2, -1)  # (..., L, N/2) each
        first = torch.cat([left, -left.flip(-1)], -1) * window[:N]
        second = torch.cat([-right.flip(-1), -right], -1) * window[N:]
        return (first + second.roll(1, -2)).flatten(-2)


@FRONT_ENDS.register("blocks")
class Blocks(Framed):
    """No transform: a waveform (..., T) as blocks of `bins` samples side by side, (..., bins, T / bins), and back."""

    lead = 0  # blocks do not overlap: a segment of the network is one window
    rows_are_samples = True  # one after the other: windows fade by sample, see `inference.windows`

    def __init__(self, bins: int):
        self.bins = self.hop = self.rows = bins

    def forward(self, wave: Tensor) -> Tensor:
        """(..., T) -> (..., bins, T / bins).

        Raises:
            InputError: T is no positive multiple of `bins`.
        """
        return in_blocks(wave, self.bins).transpose(-1, -2)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """(..., bins, L) -> (..., L * bins)."""
        return coefficients.transpose(-1, -2).flatten(-2)


def pseudo_energy(coefficients: Tensor) -> Tensor:
    """Energy of an MDCT spectrogram (..., bins, L), which depends on the phase less than squared coefficients do.

    The difference of a coefficient's two neighbours in frequency estimates the missing sine part. Source: Daudet and
    Sandler, IEEE TSAP 2004.
    """
    padded = F.pad(coefficients, (0, 0, 1, 1))
    return coefficients.square() + (padded[..., 2:, :] - padded[..., :-2, :]).square()


class Compressed(Framed):
    """MDCT frames (bins,) as `kept` principal components, the same for all stems.

    Args:
        mdct: the transform.
        basis: (kept, bins) with orthonormal rows, as `fit` returns.

    Raises:
        InputError: the rows of the basis are not orthonormal, or have another length than the frames.
    """

    def __init__(self, mdct: MDCT, basis: Tensor):
        if basis.ndim != 2 or basis.shape[1] != mdct.bins or len(basis) > mdct.bins:
            raise InputError(f"a basis of frames of {mdct.bins} bins is (kept, {mdct.bins}), not {tuple(basis.shape)}")
        if (basis @ basis.T - torch.eye(len(basis)).to(basis)).abs().max() > 1e-4:
            raise InputError("the rows of the basis are not orthonormal")
        self.mdct, self.basis = mdct, basis
        self.hop, self.rows = mdct.hop, len(basis)

    @classmethod
    def fit(cls, mdct: MDCT, waves: Iterable[Tensor], kept: int) -> "Compressed":
        """The `kept` components with most of the power of sounds (..., T), T a multiple of the MDCT's bins.

        Raises:
            InputError: there are no sounds, or `kept` is not within 1 to the number of bins.
        """
        if not 1 <= kept <= mdct.bins:
            raise InputError(f"from 1 to {mdct.bins} components can be kept, not {kept}")
        power = None
        for wave in waves:
            frames = mdct.forward(wave.double()).transpose(-1, -2).reshape(-1, mdct.bins)
            power = frames.T @ frames if power is None else power + frames.T @ frames
        if power is None:
            raise InputError("no sounds to fit the components to")
        _, vectors = torch.linalg.eigh(power)  # in ascending order of power
        return cls(mdct, vectors[:, -kept:].flip(-1).T.float().contiguous())

    def forward(self, wave: Tensor) -> Tensor:
        """(..., T) -> (..., kept, T / bins)."""
        return self.basis.to(wave) @ self.mdct.forward(wave)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """(..., kept, L) -> (..., T): the sound whose coefficients outside the components are zero."""
        return self.mdct.inverse(self.basis.to(coefficients).T @ coefficients)

    def best_sdr(self, wave: Tensor) -> Tensor:
        """SDR in dB of sounds (..., T) after `forward` and `inverse`, (...): an upper bound for any model behind it."""
        lost = (wave - self.inverse(self.forward(wave))).square().sum(-1)
        return 10 * torch.log10(wave.square().sum(-1) / lost.clamp(min=1e-20))
