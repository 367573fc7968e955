"""Analytic distributions: sources whose scores and posteriors have closed forms, to measure every method against.

`GaussianMixture` is a density over S scalar sources, `gaussian` one with a single component, and `SpectralGaussian` S
stationary sounds of any length. All obey the denoiser contract for every conditioning: noise of level sigma has
covariance sigma^2 P, P the projection on what is unknown. All answer `given`: the exact density of the sources given
the mixture, or some of them. Sums are in double precision, and densities may be singular, as conditional ones are.
Chapter: `book/02-score-matching.ipynb`. Sources: Karras et al. (EDM, arXiv 2206.00364); FLOSS (arXiv 2505.16119).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.audio.levels import STEM_RMS
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.noise import project
from msdm_lite.errors import InputError


class Source(ABC):
    """Base class of the analytic distributions: exact denoiser and score."""

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The exact conditional mean of the clean sources: noisy x (B, S, ...), noise levels (B,) -> (B, S, ...)."""

    def score(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Gradient of the log density of noisy x (B, S, ...) at levels sigma (B,), on unknown sources (Tweedie)."""
        return (self.denoise(x, sigma, conditioning) - x) / sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2


def _noise(x: Tensor, sigma: Tensor, conditioning: Conditioning | None) -> Tensor:
    """Covariance of the noise over the sources of x (B, S, ...): (B, S, S)."""
    B, S = x.shape[:2]
    if conditioning is not None:
        conditioning.require("an analytic distribution")
        if conditioning.stems.shape[1] != S:
            raise InputError(f"flags of {conditioning.stems.shape[1]} stems do not fit {S} sources")
    eye = torch.eye(S, dtype=torch.float64, device=x.device).expand(B, S, S)  # rows: one unit of noise on each source
    # project() works on (B, S, ...): the last axis runs over the S units of noise
    return project(eye, conditioning) * sigma.double()[:, None, None] ** 2


def _rows(conditioning: Conditioning, S: int) -> Tensor:
    """What is known of S sources as orthogonal rows (R, S): known sources, and the others' sum given the mixture."""
    if conditioning.stems.shape != (1, S):
        raise InputError(f"the conditioning is of one item of {S} stems, not of a batch of "
                         f"{' of '.join(map(str, conditioning.stems.shape))}")
    stems = conditioning.stems[0]
    rows = torch.eye(S, dtype=torch.float64, device=stems.device)[stems]
    others = (~stems).double()[None]
    return torch.cat([rows, others]) if conditioning.mixture[0] and not stems.all() else rows


def _solve(total: Tensor, off: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inverse of covariances (..., S, S), applied to off (..., S, n), and the logarithm of det(2 pi total): (...).

    Directions without variance are left out of both: an observation along them has no information. A variance counts
    as zero if it is within rounding of the variances `scale` (..., S), the diagonal if not given.
    """
    root, failed = torch.linalg.cholesky_ex(total)
    pivots = root.diagonal(dim1=-2, dim2=-1).square()
    least = 1e-14 * (total.diagonal(dim1=-2, dim2=-1) if scale is None else scale)
    if not failed.any() and (pivots > least).all():
        return torch.cholesky_solve(off, root), (2 * torch.pi * pivots).log().sum(-1)
    values, vectors = torch.linalg.eigh(total)
    real = values > least.amax(-1, keepdim=True)
    inverse = torch.where(real, 1 / values, 0)
    log = torch.where(real, (2 * torch.pi * values).log(), 0).sum(-1)
    return vectors @ (inverse[..., None] * (vectors.mT @ off)), log


def _condition(C: Tensor, A: Tensor, off: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sources of covariances C (..., S, S), given that A x deviates from its mean by off (..., R, n).

    A is (R, S), with orthogonal rows. Returns the change of the mean (..., S, n), the posterior covariances, and the
    log density of A x, (...).
    """
    cross = C @ A.T  # (..., S, R)
    scale = C.diagonal(dim1=-2, dim2=-1) @ A.T.square()  # variances of A x for independent sources
    solved, size = _solve(A @ cross, torch.cat([off, cross.mT], -1), scale)
    solved, gain = solved.split([off.shape[-1], C.shape[-1]], -1)  # (..., R, n), (..., R, S)
    free = torch.eye(A.shape[1]).to(A) - A.T / A.square().sum(1) @ A  # projection on what is unknown
    left = free @ (C - cross @ gain) @ free  # exactly zero for what is known
    return cross @ solved, left, -0.5 * ((off * solved).sum((-1, -2)) + size)


def _check_symmetric(C: Tensor) -> None:
    if C.is_complex() or (C - C.mT).abs().max() > 1e-5 * C.abs().max():
        raise InputError("covariances must be real and symmetric")


def _root(covariances: Tensor) -> Tensor:
    """Square roots (..., S, S) of covariances that may be singular, as those of posteriors are."""
    root, failed = torch.linalg.cholesky_ex(covariances)
    if not failed.any():  # ten times as fast
        return cast(Tensor, root)
    values, vectors = torch.linalg.eigh(covariances)
    return cast(Tensor, vectors * values.clamp(min=0).sqrt()[..., None, :])


@dataclass(frozen=True)
class GaussianMixture(Source):
    """Weights (K,), means (K, S) and covariances (K, S, S) of the joint density of S sources.

    Raises:
        InputError: shapes that do not fit, here or in a method, asymmetric covariances, or weights without a sum of 1.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        K, S = self.means.shape
        if self.weights.shape != (K,) or self.covariances.shape != (K, S, S):
            raise InputError("weights (K,), means (K, S) and covariances (K, S, S) do not fit together")
        if (self.weights < 0).any() or abs(self.weights.sum().item() - 1) > 1e-5:
            raise InputError("weights must be positive and sum to one")
        _check_symmetric(self.covariances)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, S) exact samples."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        n = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[which] + (_root(self.covariances)[which] @ n[..., None])[..., 0]

    def _given(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """For x (B, S), noise covariance (B, S, S): log of weight times density (B, K), conditional means (B, K, S)."""
        weights, means, covariances = self.weights.double(), self.means.double(), self.covariances.double()
        if x.shape[1:] != means.shape[1:]:
            raise InputError(f"points must be (B, {means.shape[1]}), not {tuple(x.shape)}")
        off = x.double()[:, None] - means  # (B, K, S)
        solved, size = _solve(covariances + noise[:, None], off[..., None])  # (B, K, S, 1), (B, K)
        log = weights.log() - 0.5 * ((off * solved[..., 0]).sum(-1) + size)
        return log, means + (covariances @ solved)[..., 0]

    def log_density(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Log density (nats) of x (B, S) when all sources carry noise sigma: (B,).

        Without noise a singular density is that within its subspace, and x is taken to lie there.
        """
        noise = sigma**2 * torch.eye(x.shape[1]).to(x.device, torch.float64).expand(len(x), -1, -1)
        return self._given(x, noise)[0].logsumexp(1).to(x.dtype)

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The exact conditional mean of the clean sources: (B, S), (B,) -> (B, S)."""
        log, means = self._given(x, _noise(x, sigma, conditioning))
        return (log.softmax(1)[..., None] * means).sum(1).to(x.dtype)

    def given(self, x: Tensor, conditioning: Conditioning) -> "GaussianMixture":
        """The exact density of all sources given what is known of one point x (S,): its covariances are singular.

        The result is in double precision. If this density is singular, all components have to be so in the same way.

        Args:
            x: its sum is the mixture; its entries are the known sources. The other entries are not used.
            conditioning: a batch of one.
        """
        weights, means, C = self.weights.double(), self.means.double(), self.covariances.double()
        if x.shape != means.shape[1:]:
            raise InputError(f"the point must be ({means.shape[1]},), not {tuple(x.shape)}")
        A = _rows(conditioning, len(x))
        if not len(A):
            return self
        change, left, log = _condition(C, A, ((x.double() - means) @ A.T)[..., None])
        # The posterior weight of a component is its weight times its density of the observation
        return GaussianMixture((weights.log() + log).softmax(0), means + change[..., 0], left)

    def posterior(self, y: float) -> "GaussianMixture":
        """The exact posterior of the first S - 1 sources given that all sum to y; the last is y minus their sum."""
        x = torch.zeros_like(self.means[0])
        x[-1] = y
        exact = self.given(x, Conditioning.on_mixture(x[None]))
        return GaussianMixture(exact.weights.to(x), exact.means[:, :-1].to(x), exact.covariances[:, :-1, :-1].to(x))


def gaussian(mean: Tensor, covariance: Tensor) -> GaussianMixture:
    """One Gaussian over S sources: mean (S,), covariance (S, S), whose off-diagonal elements are the context."""
    return GaussianMixture(mean.new_ones(1), mean[None], covariance[None])


def _degrees_of_freedom(samples: int) -> Tensor:
    """Real degrees of freedom of each frequency of the DFT of real samples, 1 or 2: (T // 2 + 1,)."""
    count = torch.full((samples // 2 + 1,), 2.0, dtype=torch.float64)
    count[0] = 1  # the constant, and the highest frequency of an even number of samples
    if samples % 2 == 0:
        count[-1] = 1
    return count


@dataclass(frozen=True)
class SpectralGaussian(Source):
    """S stationary periodic Gaussian sounds of T samples, independent between frequencies.

    At each frequency of the orthonormal DFT the sources have their own covariance (S, S), so every result is exact for
    any T. Sources in and out are (B, S, T); full scale is 1, also for sigma.

    Args:
        covariances: (T // 2 + 1, S, S), power at each frequency; the unit matrix is white noise of standard deviation
            1. They are real: sources are in phase or in antiphase, without delay between them.
        samples: T.
        mean: (S, T); zeros if not given.

    Raises:
        InputError: shapes that do not fit, here or in a method, or covariances that are not symmetric.
    """

    covariances: Tensor
    samples: int
    mean: Tensor | None = None

    def __post_init__(self) -> None:
        C = self.covariances
        if C.ndim != 3 or C.shape[1] != C.shape[2] or len(C) != self.samples // 2 + 1:
            raise InputError(f"{self.samples} samples need covariances ({self.samples // 2 + 1}, S, S), "
                             f"not {tuple(C.shape)}")
        if self.mean is not None and self.mean.shape != (C.shape[1], self.samples):
            raise InputError(f"the mean must be (S, T), not {tuple(self.mean.shape)}")
        _check_symmetric(C)

    def _spectrum(self, x: Tensor) -> Tensor:
        """The DFT of x (..., S, T) minus the mean, as real pairs: (..., F, S, 2)."""
        if x.shape[-2:] != (self.covariances.shape[1], self.samples):  # T and T + 1 can have equal F
            raise InputError(f"sounds of {self.samples} samples do not fit {tuple(x.shape)}, or the sources do not")
        x = x.double() if self.mean is None else x.double() - self.mean.double()
        return torch.view_as_real(torch.fft.rfft(x, norm="ortho").mT.resolve_conj().contiguous())

    def _wave(self, spectrum: Tensor, like: Tensor) -> Tensor:
        """(..., F, S, 2) -> (..., S, T), with the mean."""
        wave: Tensor = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()).mT, self.samples, norm="ortho")
        return (wave if self.mean is None else wave + self.mean.double()).to(like.dtype)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, S, T) exact samples."""
        n = torch.randn(count, self.covariances.shape[1], self.samples, generator=generator)
        white = torch.view_as_real(torch.fft.rfft(n.double(), norm="ortho").mT.contiguous())
        return self._wave(_root(self.covariances.double()) @ white, n)

    def log_density(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Log density (nats) of x (B, S, T) when all sources carry noise sigma: (B,), in double precision."""
        off = self._spectrum(x)  # (B, F, S, 2)
        total = self.covariances.double() + sigma**2 * torch.eye(x.shape[1]).to(x.device, torch.float64)  # (F, S, S)
        solved, size = _solve(total.expand(len(x), -1, -1, -1), off)
        quadratic = (off * solved).sum((-1, -2))  # (B, F)
        return -0.5 * (_degrees_of_freedom(self.samples) * (quadratic + size)).sum(1)

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The exact conditional mean of the clean sources, a Wiener filter: (B, S, T), (B,) -> (B, S, T)."""
        C, off = self.covariances.double(), self._spectrum(x)
        total = C + _noise(x, sigma, conditioning)[:, None]  # (B, F, S, S)
        return self._wave(C @ _solve(total, off)[0], x)

    def given(self, x: Tensor, conditioning: Conditioning) -> "SpectralGaussian":
        """The exact density of all sources given what is known of x (S, T); like `GaussianMixture.given`."""
        C, off = self.covariances.double(), self._spectrum(x)
        A = _rows(conditioning, len(x))
        if not len(A):
            return self
        change, left, _ = _condition(C, A, A @ off)  # (F, S, 2), (F, S, S)
        return SpectralGaussian(left, self.samples, self._wave(change, x))


def band(samples: int, context: float = 0.3, sample_rate: int = SAMPLE_RATE) -> SpectralGaussian:
    """Bass, drums, guitar and piano as stationary Gaussian sounds: their spectra, without any course in time.

    Each stem has the active RMS of the corpus (0.06). Bass, guitar and piano have line spectra of a chord on A; drums
    have a broad spectrum with a peak at 60 Hz.

    Args:
        samples: length T.
        context: correlation of every two stems at each frequency, from 0 (independent) to below 1.
        sample_rate: in Hz, at least 1000.

    Raises:
        InputError: a correlation outside [0, 1), fewer than two samples, or a rate too low for the notes.
    """
    if not 0 <= context < 1:
        raise InputError(f"context is a correlation from 0 to below 1, not {context}")
    if samples < 2 or sample_rate < 1000:
        raise InputError(f"a sound has two samples or more, not {samples}, at 1000 Hz or more, not {sample_rate}")
    hertz = torch.arange(samples // 2 + 1, dtype=torch.float64) * sample_rate / samples
    least = sample_rate / samples / 2  # width of a line: at least the spacing of frequencies, so that none is missed

    def comb(notes: list[float], fall: float) -> Tensor:
        partials = [(note * h, h**-fall) for note in notes for h in range(1, 40) if note * h < sample_rate / 2]
        return cast(Tensor, sum(power * torch.exp(-((hertz - at) ** 2) / (2 * max(2 + at / 200, least) ** 2))
                                for at, power in partials))

    drums = 1 / (1 + (hertz / 3000) ** 2) + 30 * torch.exp(-((hertz - 60) ** 2) / (2 * 20**2))
    spectra = torch.stack([comb([55.0], 2.5), drums, comb([164.8, 220.0, 277.2], 1.5), comb([220.0, 329.6, 440.0], 2)])
    spectra = spectra + 1e-4 * spectra.amax(1, keepdim=True)  # a floor, so that no covariance is singular
    energy = spectra @ _degrees_of_freedom(samples)
    root = (spectra * (STEM_RMS**2 * samples / energy)[:, None]).sqrt().T  # (F, S)
    shared = (1 - context) * torch.eye(4).double() + context
    return SpectralGaussian(root[:, :, None] * shared * root[:, None], samples)
