"""Noise and conditioning: what is known of the stems, and the subspace that the noise lies in.

Nothing known: all stems are noisy, and the denoiser is that of the prior. The mixture known: the noise sums to zero
over the stems (mixture-constrained or zero-sum noise), so that the noisy stems sum to the clean mixture. Some stems
known: those carry no noise. Both at once is allowed. The noise is `sigma * project(n)`, never rescaled, so
`score = (denoise(x) - x) / sigma ** 2` holds inside the subspace of what is unknown. Zero-sum noise is FLOSS's (arXiv
2505.16119). Chapter: `book/07-separation.ipynb`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """For each item of a batch: is the mixture known (B,), and which stems are (B, S). Boolean tensors."""

    mixture: Tensor
    stems: Tensor

    @classmethod
    def none(cls, x: Tensor) -> "Conditioning":
        """For a batch like x, (B, S, ...)."""
        B, S = x.shape[:2]
        return cls(torch.zeros(B, dtype=torch.bool, device=x.device),
                   torch.zeros(B, S, dtype=torch.bool, device=x.device))

    @classmethod
    def on_mixture(cls, x: Tensor) -> "Conditioning":
        """For a batch like x, (B, S, ...)."""
        nothing = cls.none(x)
        return cls(~nothing.mixture, nothing.stems)

    @classmethod
    def on_stems(cls, x: Tensor, stems: Iterable[int], mixture: bool = False) -> "Conditioning":
        """For a batch like x, (B, S, ...): these stems, by number, and perhaps the mixture too."""
        conditioning = cls.on_mixture(x) if mixture else cls.none(x)
        conditioning.stems[:, list(stems)] = True
        return conditioning

    def any_known(self) -> bool:
        """Is anything known, of any item?"""
        return bool(self.mixture.any() or self.stems.any())

    def flags(self) -> Tensor:
        """(B, 1 + S) float: the mixture's flag, then the stems'."""
        return torch.cat([self.mixture[:, None], self.stems], 1).float()

    def unknown(self, like: Tensor) -> Tensor:
        """1 where a stem is unknown, 0 where it is known: (B, S, 1, ...) with as many axes as `like`."""
        return (~self.stems).to(like).reshape(*self.stems.shape, *[1] * (like.ndim - 2))


Noise = torch.Generator | Sequence[torch.Generator] | None  # one generator, or one for each item of a batch


def white(like: Tensor, generator: Noise = None) -> Tensor:
    """White noise of unit variance, shaped like a tensor and beside it, by a generator that may be of another device.

    So the same seed gives the same noise on a GPU as on a CPU. Of several generators, one an item (B, ...), each draws
    what it would draw for its item alone; items that share one get the same noise, drawn once.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(like):
            raise ValueError(f"{len(generator)} generators for {len(like)} items")
        drawn = {one: white(like[:1], one) for one in dict.fromkeys(generator)}
        return torch.cat([drawn[one] for one in generator])
    where = generator.device if generator else like.device
    return torch.randn(like.shape, generator=generator, device=where, dtype=like.dtype).to(like.device)


def project(noise: Tensor, conditioning: Conditioning | None) -> Tensor:
    """The orthogonal projection of noise (B, S, ...) on what is unknown. The argument is left as it was."""
    if conditioning is None:
        return noise
    free = conditioning.unknown(noise)
    if conditioning.stems.any():
        noise = noise * free
    count = free.sum(1, keepdim=True).clamp(min=1)
    fixed = conditioning.mixture.to(noise).reshape(-1, *[1] * (noise.ndim - 1))
    mean = noise.sum(1, keepdim=True) / count * fixed  # what moves the sum, shared by the unknown stems
    return torch.addcmul(noise, mean, free, value=-1)


def seed_of(*numbers: int) -> int:
    """A seed below 2^63, which is what torch takes, from numbers of 0 or more."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def add_noise(x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
              generator: torch.Generator | None = None,
              n: Tensor | None = None) -> Tensor:
    """x + sigma * P n for clean x (B, S, ...), levels sigma (B,) and white noise n, drawn here if not given."""
    if n is None:
        n = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * project(n, conditioning)


def draw_sigma(count: int, conditioning: Conditioning, free: tuple[float, float], mixture: tuple[float, float],
               generator: torch.Generator) -> Tensor:
    """Training levels, log-normal: (mean, deviation) of ln sigma where nothing is known, and where the mixture is."""
    z = torch.randn(count, generator=generator)
    return torch.where(conditioning.mixture, mixture[0] + mixture[1] * z, free[0] + free[1] * z).exp()
