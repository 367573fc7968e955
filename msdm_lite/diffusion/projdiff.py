"""ProjDiff: separation as optimization of the clean stems, the denoiser saying which way (Zhang et al., NeurIPS 2024).

The estimate is noised, denoised, and moved a little towards the answer, with momentum; then it is projected on the
stems that sum to the mixture. It never holds a noisy state on the constraint, so the noise levels that the denoiser
is given are always right. What it finds is a likely band rather than a sample. Chapter:
`book/11-beyond-the-paper.ipynb`.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from msdm_lite.diffusion.guidance import Denoise
from msdm_lite.diffusion.noise import Noise, white
from msdm_lite.diffusion.sampling import State, check_levels
from msdm_lite.errors import InputError


def projdiff(y: Tensor, stems: int, sigmas: list[float], denoise: Denoise, inner_steps: int = 5,
             rate: float | None = None,
             momentum: float = 0.5, generator: Noise = None) -> Generator[State, None, Tensor]:
    """Yields the estimate after each noise level: x and x0 are the same, clean stems that sum to the mixture.

    Args:
        y: mixtures, (B, ...).
        stems: S.
        sigmas: falling noise levels; a final 0 is left out.
        rounds: N, evaluations at each level.
        rate: how far one goes; 0.5 / N if not given, as published.
        momentum: share of the last move that goes on.

    Raises:
        InputError: levels that do not fall, rounds or rate that are not above 0, momentum outside [0, 1).
        FloatingPointError: the denoiser returned something not finite; the message names the level.
    """
    check_levels(sigmas)
    rate = 0.5 / max(inner_steps, 1) if rate is None else rate
    if inner_steps < 1 or rate <= 0 or not 0 <= momentum < 1:
        raise InputError(f"{inner_steps} rounds at rate {rate} with momentum {momentum} make no way")
    x0 = (y / stems).unsqueeze(1).repeat_interleave(stems, 1)  # (B, S, ...): the projection of silence
    move = torch.zeros_like(x0)
    for sigma in (level for level in sigmas if level > 0):
        level = torch.full((len(x0),), sigma, dtype=x0.dtype, device=x0.device)
        for _ in range(inner_steps):
            x = torch.add(x0, white(x0, generator), alpha=sigma)
            guess = denoise(x, level)
            del x  # the state of a long song is large
            if not all(bound.isfinite() for bound in guess.aminmax()):
                raise FloatingPointError(f"the denoiser returned values that are not finite at sigma = {sigma:.4g}")
            move = torch.lerp(guess - x0, move, momentum)
            del guess
            x0 = torch.add(x0, move, alpha=rate)
            x0 = x0 + ((y - x0.sum(1)) / stems).unsqueeze(1)
        yield State(x0, sigma, x0)
    return x0
