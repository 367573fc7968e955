"""Sources whose scores and posteriors have closed forms: the right answer, to measure every method against.

A mixture of Gaussians over S scalar sources. It obeys the denoiser contract for every shape of noise: noise of level
sigma has covariance sigma^2 P, P the projection on what is unknown, and one formula serves all shapes.
Chapter: `book/07-separation.ipynb`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.known import Known, project


@dataclass(frozen=True)
class GaussianMixture:
    """Weights (K,), means (K, S) and covariances (K, S, S) of the joint density of S sources."""

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
        return self.means[which] + (torch.linalg.cholesky(self.covariances)[which] @ n[..., None])[..., 0]

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
        B, S = x.shape
        eye = torch.eye(S, dtype=x.dtype).expand(B, S, S)  # rows: one unit of noise on each source
        known = Known.nothing(x) if known is None else known
        # project() works on (B, S, ...): the last axis runs over the S units of noise
        noise = project(eye, known) * sigma[:, None, None] ** 2
        log, means = self._given(x, noise)
        return (log.softmax(1)[..., None] * means).sum(1)

    def posterior(self, y: float) -> "GaussianMixture":
        """The exact posterior of the first S - 1 sources given that all sum to y; the last is y minus their sum."""
        ones = torch.ones(self.means.shape[1], dtype=self.means.dtype)
        spread = self.covariances @ ones  # (K, S): covariance of each source with the sum
        variance = spread @ ones  # (K,)
        off = y - self.means @ ones
        means = self.means + spread * (off / variance)[:, None]
        covariances = self.covariances - spread[:, :, None] * spread[:, None] / variance[:, None, None]
        log = self.weights.log() - 0.5 * (off**2 / variance + variance.log())
        return GaussianMixture(log.softmax(0), means[:, :-1], covariances[:, :-1, :-1])
