"""Analytic distributions: sources whose scores and posteriors have closed forms, to measure every method against.

`GaussianMixture` is a density over S scalar sources, `gaussian` one with a single component, and `SpectralGaussian` S
stationary sounds of any length. All obey the denoiser contract for every conditioning: noise of level sigma has
covariance sigma^2 P, P the projection on what is unknown. All answer `given`: the exact density of the sources given
the mixture, or some of them. Sums are in double precision, and densities may be singular, as conditional ones are.
Chapter: `book/02-score-matching.ipynb`. Sources: Karras et al. (EDM, arXiv 2206.00364); FLOSS (arXiv 2505.16119).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.audio.levels import STEM_RMS
from msdm_lite.diffusion.noise import Conditioning, project
from msdm_lite.errors import InputError


class Source(ABC):
    """What every source of exact answers can say."""

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The exact conditional mean of the clean sources: noisy x (B, S, ...), levels (B,) -> (B, S, ...)."""

    def score(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Gradient of the log density of noisy x (B, S, ...) at levels sigma (B,), inside what is unknown (Tweedie)."""
        return (self.denoise(x, sigma, conditioning) - x) / sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2


def _noise(x: Tensor, sigma: Tensor, conditioning: Conditioning | None) -> Tensor:
    """Covariance of the noise over the sources of x (B, S, ...): (B, S, S)."""
    B, S = x.shape[:2]
    if conditioning is not None and conditioning.stems.shape[1] != S:
        raise InputError(f"flags of {conditioning.stems.shape[1]} stems do not fit {S} sources")
    eye = torch.eye(S, dtype=torch.float64, device=x.device).expand(B, S, S)  # rows: one unit of noise on each source
    # project() works on (B, S, ...): the last axis runs over the S units of noise
    return project(eye, conditioning) * sigma.double()[:, None, None] ** 2


def _rows(conditioning: Conditioning, S: int) -> Tensor:
    """What is observed of S sources, as orthogonal rows (R, S): those known, and the others' sum if the mixture is."""
    if conditioning.stems.shape != (1, S):
        raise InputError(f"flags of one item of {S} stems say what is known, not a batch of "
                         f"{' of '.join(map(str, conditioning.stems.shape))}")
    stems = conditioning.stems[0]
    rows = torch.eye(S, dtype=torch.float64, device=stems.device)[stems]
    others = (~stems).double()[None]
    return torch.cat([rows, others]) if conditioning.mixture[0] and not stems.all() else rows


def _solve(total: Tensor, off: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inverse of covariances (..., S, S), applied to off (..., S, n), and the logarithm of det(2 pi total): (...).

    Where nothing varies nothing is learned: such directions are left out of both. Nothing is what rounding leaves of
    the variances `scale` (..., S), the diagonal if not given.
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
    """Sources of covariances C (..., S, S), once A x is known to be off (..., R, n) above its mean.

    A is (R, S), of orthogonal rows. Returns the mean's change (..., S, n), the covariances that are left, and the log
    density of A x, (...).
    """
    cross = C @ A.T  # (..., S, R)
    scale = C.diagonal(dim1=-2, dim2=-1) @ A.T.square()  # of A x, were the sources independent
    solved, size = _solve(A @ cross, torch.cat([off, cross.mT], -1), scale)
    solved, gain = solved.split([off.shape[-1], C.shape[-1]], -1)  # (..., R, n), (..., R, S)
    free = torch.eye(A.shape[1]).to(A) - A.T / A.square().sum(1) @ A  # projection on what is unknown
    left = free @ (C - cross @ gain) @ free  # what is known varies by nothing at all, not by rounding
    return cross @ solved, left, -0.5 * ((off * solved).sum((-1, -2)) + size)


def _check_symmetric(C: Tensor) -> None:
    if C.is_complex() or (C - C.mT).abs().max() > 1e-5 * C.abs().max():
        raise InputError("covariances must be real and symmetric")


def _root(covariances: Tensor) -> Tensor:
    """Square roots (..., S, S) of covariances that may be singular, as those of posteriors are."""
    root, failed = torch.linalg.cholesky_ex(covariances)
    if not failed.any():  # a tenth of the time
        return root
    values, vectors = torch.linalg.eigh(covariances)
    return vectors * values.clamp(min=0).sqrt()[..., None, :]


@dataclass(frozen=True)
class GaussianMixture(Source):
    """Weights (K,), means (K, S) and covariances (K, S, S) of the joint density of S sources.

    Raises:
        InputError: shapes that do not fit, here or in a method, covariances that are not symmetric, or weights that
            are negative or do not sum to one.
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
        """The exact density of all sources, once what is known of one point x (S,) is: its covariances are singular.

        The answer is in double precision. If this density is singular itself, then so must all components be, alike.

        Args:
            x: its sum is the mixture; its entries are the known sources. The others do not matter.
            known: a batch of one.
        """
        weights, means, C = self.weights.double(), self.means.double(), self.covariances.double()
        if x.shape != means.shape[1:]:
            raise InputError(f"the point must be ({means.shape[1]},), not {tuple(x.shape)}")
        A = _rows(conditioning, len(x))
        if not len(A):
            return self
        change, left, log = _condition(C, A, ((x.double() - means) @ A.T)[..., None])
        # A component's new weight is its old one times the density that it gave to what was observed
        return GaussianMixture((weights.log() + log).softmax(0), means + change[..., 0], left)

    def posterior(self, y: float) -> "GaussianMixture":
        """The exact posterior of the first S - 1 sources given that all sum to y; the last is y minus their sum."""
        x = torch.zeros_like(self.means[0])
        x[-1] = y
        exact = self.given(x, Conditioning.on_mixture(x[None]))
        return GaussianMixture(*(v.to(x.dtype) for v in (exact.weights, exact.means[:, :-1],
                                                         exact.covariances[:, :-1, :-1])))


def gaussian(mean: Tensor, covariance: Tensor) -> GaussianMixture:
    """One Gaussian over S sources: mean (S,), covariance (S, S). Off the diagonal stands what they share: context."""
    return GaussianMixture(mean.new_ones(1), mean[None], covariance[None])


def _numbers(samples: int) -> Tensor:
    """How many numbers a frequency of the DFT of real samples has, cosine and sine or one: (T // 2 + 1,)."""
    numbers = torch.full((samples // 2 + 1,), 2.0, dtype=torch.float64)
    numbers[0] = 1  # the constant, and the highest of an even number of samples
    if samples % 2 == 0:
        numbers[-1] = 1
    return numbers


@dataclass(frozen=True)
class SpectralGaussian(Source):
    """S stationary sounds of T samples, on a loop: Gaussian, and independent from frequency to frequency.

    At each frequency of the orthonormal DFT the sources have a covariance (S, S) of their own, so every answer is
    exact however long the sound is. Sources in and out are (B, S, T), full scale being 1, as is the unit of sigma.

    Args:
        covariances: (T // 2 + 1, S, S), power at each frequency; the unit matrix is white noise of deviation 1.
            Real: sources share phases or oppose them, and none comes later than another.
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
        """What x (..., S, T) has over the mean, at each frequency, as real pairs: (..., F, S, 2)."""
        if x.shape[-2:] != (self.covariances.shape[1], self.samples):  # a length one off may have as many frequencies
            raise InputError(f"sounds of {self.samples} samples do not fit {tuple(x.shape)}, or the sources do not")
        x = x.double() if self.mean is None else x.double() - self.mean.double()
        return torch.view_as_real(torch.fft.rfft(x, norm="ortho").mT.resolve_conj().contiguous())

    def _wave(self, spectrum: Tensor, like: Tensor) -> Tensor:
        """(..., F, S, 2) -> (..., S, T), with the mean."""
        wave = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()).mT, self.samples, norm="ortho")
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
        return -0.5 * (_numbers(self.samples) * (quadratic + size)).sum(1)

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The exact conditional mean of the clean sources, a Wiener filter: (B, S, T), (B,) -> (B, S, T)."""
        C, off = self.covariances.double(), self._spectrum(x)
        total = C + _noise(x, sigma, conditioning)[:, None]  # (B, F, S, S)
        return self._wave(C @ _solve(total, off)[0], x)

    def given(self, x: Tensor, conditioning: Conditioning) -> "SpectralGaussian":
        """The exact density of all sources, once what is known of x (S, T) is; like `GaussianMixture.given`."""
        C, off = self.covariances.double(), self._spectrum(x)
        A = _rows(conditioning, len(x))
        if not len(A):
            return self
        change, left, _ = _condition(C, A, A @ off)  # (F, S, 2), (F, S, S)
        return SpectralGaussian(left, self.samples, self._wave(change, x))


def band(samples: int, context: float = 0.3, sample_rate: int = SAMPLE_RATE) -> SpectralGaussian:
    """Bass, drums, guitar and piano as stationary Gaussian sounds: their spectra, and nothing else of music.

    A stationary texture, a hum with four colours, each at the active RMS of the corpus (0.06). Bass, guitar and piano
    are combs of a chord on A, drums are broad with a low thump.

    Args:
        samples: length T.
        context: correlation of every two stems at each frequency, from 0 (independent) to below 1.
        sample_rate: in Hz, at least 1000.

    Raises:
        InputError: a correlation outside [0, 1), fewer than two samples, or a rate too low for the notes.
    """
    if not 0 <= context < 1:
        raise InputError(f"context is a correlation from 0 to below 1, not {context}")
    if samples < 2:
        raise InputError(f"a sound has at least two samples, not {samples}")
    if sample_rate < 1000:
        raise InputError(f"the notes need a sample rate of at least 1000 Hz, not {sample_rate}")
    hertz = torch.arange(samples // 2 + 1, dtype=torch.float64) * sample_rate / samples
    least = sample_rate / samples / 2  # a line is as wide as the frequencies are apart, or it could fall between them

    def comb(notes: list[float], fall: float) -> Tensor:
        partials = [(note * h, h**-fall) for note in notes for h in range(1, 40) if note * h < sample_rate / 2]
        return sum(power * torch.exp(-((hertz - at) ** 2) / (2 * max(2 + at / 200, least) ** 2))
                   for at, power in partials)

    drums = 1 / (1 + (hertz / 3000) ** 2) + 30 * torch.exp(-((hertz - 60) ** 2) / (2 * 20**2))
    spectra = torch.stack([comb([55.0], 2.5), drums, comb([164.8, 220.0, 277.2], 1.5), comb([220.0, 329.6, 440.0], 2)])
    spectra = spectra + 1e-4 * spectra.amax(1, keepdim=True)  # nothing is ever quite silent
    whole = spectra @ _numbers(samples)
    root = (spectra * (STEM_RMS**2 * samples / whole)[:, None]).sqrt().T  # (F, S)
    shared = (1 - context) * torch.eye(4).double() + context
    return SpectralGaussian(root[:, :, None] * shared * root[:, None], samples)
