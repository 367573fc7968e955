"""Sources whose scores and posteriors have closed forms: the right answer, to measure every method against.

`GaussianMixture` is a density over S scalar sources, `gaussian` one with a single component, and `SpectralGaussian` S
stationary sounds of any length. All obey the denoiser contract for every shape of noise: noise of level sigma has
covariance sigma^2 P, P the projection on what is unknown, and one formula serves all shapes. All answer `given`: the
exact density of the sources once the mixture, or some of them, is known. Chapter: `book/07-separation.ipynb`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from msdm_lite.audio import SAMPLE_RATE, STEM_RMS
from msdm_lite.errors import InputError
from msdm_lite.known import Known, project


class Source:
    """What every source of exact answers can say."""

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        raise NotImplementedError

    def score(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        """Gradient of the log density of noisy x (B, S, ...) at levels sigma (B,), inside what is unknown (Tweedie)."""
        return (self.denoise(x, sigma, known) - x) / sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2


def _noise(x: Tensor, sigma: Tensor, known: Known | None) -> Tensor:
    """Covariance of the noise over the sources of x (B, S, ...): (B, S, S)."""
    B, S = x.shape[:2]
    eye = torch.eye(S, dtype=sigma.dtype).expand(B, S, S)  # rows: one unit of noise on each source
    # project() works on (B, S, ...): the last axis runs over the S units of noise
    return project(eye, known) * sigma[:, None, None] ** 2


def _rows(known: Known, like: Tensor) -> Tensor:
    """What is observed, as rows (R, S): the known sources, and the sum of the others if the mixture is known."""
    if len(known.stems) != 1:
        raise InputError(f"one thing is known at a time, not a batch of {len(known.stems)}")
    stems = known.stems[0]
    rows = torch.eye(len(stems), dtype=like.dtype)[stems]
    others = (~stems).to(like.dtype)[None]
    return torch.cat([rows, others]) if known.mixture[0] and not stems.all() else rows


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
        InputError: shapes that do not fit, or weights that are negative or do not sum to one.
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

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, S) exact samples."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        n = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[which] + (_root(self.covariances)[which] @ n[..., None])[..., 0]

    def _given(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """For x (B, S), noise covariance (B, S, S): log of weight times density (B, K), conditional means (B, K, S)."""
        total = self.covariances + noise[:, None]  # (B, K, S, S)
        off = x[:, None] - self.means  # (B, K, S)
        solved = torch.linalg.solve(total, off[..., None])[..., 0]
        log = self.weights.log() - 0.5 * ((off * solved).sum(-1) + torch.logdet(2 * torch.pi * total))
        return log, self.means + (self.covariances @ solved[..., None])[..., 0]

    def log_density(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Log density of x (B, S) when all sources carry noise sigma: (B,)."""
        noise = sigma**2 * torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)
        return self._given(x, noise)[0].logsumexp(1)

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        """The exact conditional mean of the clean sources: (B, S), (B,) -> (B, S)."""
        log, means = self._given(x, _noise(x, sigma, known))
        return (log.softmax(1)[..., None] * means).sum(1)

    def given(self, x: Tensor, known: Known) -> "GaussianMixture":
        """The exact density of all sources, once what is known of one point x (S,) is: its covariances are singular.

        Args:
            x: its sum is the mixture; its entries are the known sources. The others do not matter.
            known: a batch of one.
        """
        A = _rows(known, x)  # (R, S)
        if not len(A):
            return self
        cross = self.covariances @ A.T  # (K, S, R): sources with what is observed
        own = A @ cross  # (K, R, R)
        off = (x - self.means) @ A.T  # (K, R)
        gain = torch.linalg.solve(own, cross.mT).mT
        means = self.means + (gain @ off[..., None])[..., 0]
        quadratic = (off * torch.linalg.solve(own, off[..., None])[..., 0]).sum(-1)
        log = self.weights.log() - 0.5 * (quadratic + torch.logdet(2 * torch.pi * own))
        return GaussianMixture(log.softmax(0), means, self.covariances - gain @ cross.mT)

    def posterior(self, y: float) -> "GaussianMixture":
        """The exact posterior of the first S - 1 sources given that all sum to y; the last is y minus their sum."""
        x = torch.zeros_like(self.means[0])
        x[-1] = y
        exact = self.given(x, Known.the_mixture(x[None]))
        return GaussianMixture(exact.weights, exact.means[:, :-1], exact.covariances[:, :-1, :-1])


def gaussian(mean: Tensor, covariance: Tensor) -> GaussianMixture:
    """One Gaussian over S sources: mean (S,), covariance (S, S). Off the diagonal stands what they share: context."""
    return GaussianMixture(torch.ones(1, dtype=mean.dtype), mean[None], covariance[None])


@dataclass(frozen=True)
class SpectralGaussian(Source):
    """S stationary sounds of T samples, on a loop: Gaussian, and independent from frequency to frequency.

    At each frequency of the orthonormal DFT the sources have a covariance (S, S) of their own, so every answer is
    exact however long the sound is. Sources in and out are (B, S, T); sums are done in double precision.

    Args:
        covariances: (T // 2 + 1, S, S), power at each frequency; the unit matrix is white noise of deviation 1.
        samples: T.
        mean: (S, T); zeros if not given.

    Raises:
        InputError: shapes that do not fit.
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

    def _spectrum(self, x: Tensor) -> Tensor:
        """What x (..., S, T) has over the mean, at each frequency, as real pairs: (..., F, S, 2)."""
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
        """Log density of x (B, S, T) when all sources carry noise sigma: (B,)."""
        S = x.shape[1]
        total = self.covariances.double() + sigma**2 * torch.eye(S).double()  # (F, S, S)
        off = self._spectrum(x)
        quadratic = (off * torch.linalg.solve(total, off)).sum((-1, -2))  # (B, F)
        twice = torch.full((len(total),), 2.0, dtype=torch.float64)  # a frequency has two numbers, cosine and sine,
        twice[0] = 1  # but the constant has one, and so has the highest of an even number
        if self.samples % 2 == 0:
            twice[-1] = 1
        return -0.5 * (twice * (quadratic + torch.logdet(2 * torch.pi * total))).sum(1)

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        """The exact conditional mean of the clean sources, a Wiener filter: (B, S, T), (B,) -> (B, S, T)."""
        C = self.covariances.double()
        total = C + _noise(x, sigma.double(), known)[:, None]  # (B, F, S, S)
        return self._wave(C @ torch.linalg.solve(total, self._spectrum(x)), x)

    def given(self, x: Tensor, known: Known) -> "SpectralGaussian":
        """The exact density of all sources, once what is known of x (S, T) is; like `GaussianMixture.given`."""
        C = self.covariances.double()
        A = _rows(known, C)
        if not len(A):
            return self
        cross = C @ A.T  # (F, S, R)
        gain = torch.linalg.solve(A @ cross, cross.mT).mT
        return SpectralGaussian(C - gain @ cross.mT, self.samples, self._wave(gain @ (A @ self._spectrum(x)), x))


def band(samples: int, context: float = 0.3, sample_rate: int = SAMPLE_RATE) -> SpectralGaussian:
    """Bass, drums, guitar and piano as stationary Gaussian sounds: their spectra, and nothing else of music.

    A hum with four colours, each at the active RMS of the corpus. Bass, guitar and piano are combs of a chord on A,
    drums are broad with a low thump.

    Args:
        context: correlation of every two stems at each frequency, from 0 (independent) to below 1.

    Raises:
        InputError: a correlation outside [0, 1), or fewer than two samples.
    """
    if not 0 <= context < 1:
        raise InputError(f"context is a correlation from 0 to below 1, not {context}")
    if samples < 2:
        raise InputError(f"a sound has at least two samples, not {samples}")
    hertz = torch.linspace(0, sample_rate / 2, samples // 2 + 1, dtype=torch.float64)

    def comb(notes: list[float], fall: float) -> Tensor:
        partials = [(note * h, h**-fall) for note in notes for h in range(1, 40) if note * h < sample_rate / 2]
        return sum(power * torch.exp(-((hertz - at) ** 2) / (2 * (2 + at / 200) ** 2)) for at, power in partials)

    drums = 1 / (1 + (hertz / 3000) ** 2) + 30 * torch.exp(-((hertz - 60) ** 2) / (2 * 20**2))
    spectra = torch.stack([comb([55.0], 2.5), drums, comb([164.8, 220.0, 277.2], 1.5), comb([220.0, 329.6, 440.0], 2)])
    spectra = spectra + 1e-4 * spectra.amax(1, keepdim=True)  # nothing is ever quite silent
    whole = 2 * spectra.sum(1) - spectra[:, 0] - (spectra[:, -1] if samples % 2 == 0 else 0)
    root = (spectra * (STEM_RMS**2 * samples / whole)[:, None]).sqrt().T  # (F, S)
    shared = (1 - context) * torch.eye(4).double() + context
    return SpectralGaussian(root[:, :, None] * shared * root[:, None], samples)
