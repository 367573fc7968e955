"""Noise, in the subspace of what is unknown (`msdm_lite.diffusion.conditioning`).

The noise is `sigma * project(n)`, never rescaled, so `score = (denoise(x) - x) / sigma ** 2` holds inside that
subspace. Chapter: `book/07-separation.ipynb`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from msdm_lite.diffusion.conditioning import Conditioning

#: One generator, or one for each item of a batch; torch's own if None.
Noise = torch.Generator | Sequence[torch.Generator] | None


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
    if conditioning.stems.any() or conditioning.span is not None:
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
