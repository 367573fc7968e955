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
    """What is known of each item of a batch: the mixture, (B,), and which stems, (B, S). Boolean tensors."""

    mixture: Tensor
    stems: Tensor

    @classmethod
    def none(cls, x: Tensor) -> "Conditioning":
        """Nothing is known, for a batch like x, (B, S, ...)."""
        B, S = x.shape[:2]
        return cls(torch.zeros(B, dtype=torch.bool, device=x.device),
                   torch.zeros(B, S, dtype=torch.bool, device=x.device))

    @classmethod
    def on_mixture(cls, x: Tensor) -> "Conditioning":
        """The mixture is known, for a batch like x, (B, S, ...)."""
        none = cls.none(x)
        return cls(~none.mixture, none.stems)

    @classmethod
    def on_stems(cls, x: Tensor, stems: Iterable[int], mixture: bool = False) -> "Conditioning":
        """The stems with these indices are known, and the mixture if asked, for a batch like x, (B, S, ...)."""
        conditioning = cls.on_mixture(x) if mixture else cls.none(x)
        conditioning.stems[:, list(stems)] = True
        return conditioning

    def any_known(self) -> bool:
        """Whether anything is known of any item."""
        return bool(self.mixture.any() or self.stems.any())

    def flags(self) -> Tensor:
        """The flags as floats, (B, 1 + S): the mixture's, then the stems'."""
        return torch.cat([self.mixture[:, None], self.stems], 1).float()

    def unknown(self, like: Tensor) -> Tensor:
        """1 for unknown stems, 0 for known ones: (B, S, 1, ...) with as many axes as `like`."""
        return (~self.stems).to(like).reshape(*self.stems.shape, *[1] * (like.ndim - 2))


Noise = torch.Generator | Sequence[torch.Generator] | None  # one generator, or one for each item of a batch


def white(like: Tensor, generator: Noise = None) -> Tensor:
    """White noise of unit variance with the shape, type and device of `like`.

    It is drawn on the device of the generator, so one seed gives the same noise on a GPU as on a CPU. Of several
    generators, one for each item (B, ...), each draws what it would draw for its item alone; items that share one get
    the same noise, drawn once.

    Raises:
        ValueError: the number of generators is not B.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(like):
            raise ValueError(f"{len(generator)} generators for {len(like)} items")
        drawn = {one: white(like[:1], one) for one in dict.fromkeys(generator)}
        return torch.cat([drawn[one] for one in generator])
    where = generator.device if generator else like.device
    return torch.randn(like.shape, generator=generator, device=where, dtype=like.dtype).to(like.device)


def project(noise: Tensor, conditioning: Conditioning | None) -> Tensor:
    """The orthogonal projection of noise (B, S, ...) on what is unknown. The argument is not changed."""
    if conditioning is None:
        return noise
    free = conditioning.unknown(noise)
    if conditioning.stems.any():
        noise = noise * free
    count = free.sum(1, keepdim=True).clamp(min=1)
    fixed = conditioning.mixture.to(noise).reshape(-1, *[1] * (noise.ndim - 1))
    mean = noise.sum(1, keepdim=True) / count * fixed  # the part that changes the sum
    return torch.addcmul(noise, mean, free, value=-1)


def seed_of(*numbers: int) -> int:
    """One seed below 2^63, torch's limit, from several numbers of 0 or more, such as those of a run and of an item.

    Adjacent numbers give independent seeds. Chapter: `book/05-training.ipynb`.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def add_noise(x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
              generator: torch.Generator | None = None, n: Tensor | None = None) -> Tensor:
    """x + sigma * P n for clean x (B, S, ...), noise levels sigma (B,) and white noise n, drawn here if not given."""
    if n is None:
        n = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * project(n, conditioning)


def draw_sigma(count: int, conditioning: Conditioning, free: tuple[float, float], mixture: tuple[float, float],
               generator: torch.Generator) -> Tensor:
    """Noise levels of training, log-normal, (count,).

    Args:
        free: (mean, standard deviation) of ln sigma for items whose mixture is unknown.
        mixture: the same for items whose mixture is known.
    """
    z = torch.randn(count, generator=generator)
    return torch.where(conditioning.mixture, mixture[0] + mixture[1] * z, free[0] + free[1] * z).exp()
