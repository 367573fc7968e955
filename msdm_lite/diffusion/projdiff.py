"""ProjDiff: separation as optimization of the clean stems, led by a denoiser (Zhang et al., NeurIPS 2024).

At each step noise is added to the estimate, the result is denoised, and the estimate moves towards it with momentum;
then it is projected on the stems that sum to the mixture. The constraint is imposed on clean stems only, so the input
of the denoiser always has the noise level that it is given. The result is a mode rather than a sample. Chapter:
`book/11-beyond-the-paper.ipynb`.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from msdm_lite.diffusion.conditioning import Denoise
from msdm_lite.diffusion.noise import Noise, white
from msdm_lite.diffusion.sampling import State
from msdm_lite.diffusion.schedules import check_levels
from msdm_lite.errors import InputError


def projdiff(y: Tensor, stems: int, sigmas: list[float], denoise: Denoise, inner_steps: int = 5,
             rate: float | None = None, momentum: float = 0.5,
             generator: Noise = None) -> Generator[State, None, Tensor]:
    """Yields the estimate after each noise level: x and x0 are the same, clean stems that sum to the mixture.

    Args:
        y: mixtures, (B, ...).
        stems: S.
        sigmas: decreasing noise levels; a final 0 is left out.
        inner_steps: N, evaluations at each noise level.
        rate: step size; 0.5 / N if not given, as published.
        momentum: weight of the last step in the next, from 0 to below 1.

    Raises:
        InputError: levels that do not decrease, inner steps or a rate that are not above 0, momentum outside [0, 1).
        FloatingPointError: the denoiser returned values that are not finite; the message has the noise level.
    """
    check_levels(sigmas)
    rate = 0.5 / max(inner_steps, 1) if rate is None else rate
    if inner_steps < 1 or rate <= 0 or not 0 <= momentum < 1:
        raise InputError(f"ProjDiff needs inner steps and a rate above 0 and a momentum in [0, 1), not "
                         f"{inner_steps}, {rate} and {momentum}")
    x0 = (y / stems).unsqueeze(1).repeat_interleave(stems, 1)  # (B, S, ...): the projection of silence
    update = torch.zeros_like(x0)
    for sigma in (level for level in sigmas if level > 0):
        level = torch.full((len(x0),), sigma, dtype=x0.dtype, device=x0.device)
        for _ in range(inner_steps):
            x = torch.add(x0, white(x0, generator), alpha=sigma)
            denoised = denoise(x, level)
            del x  # the state of a long song is large
            if not all(bound.isfinite() for bound in denoised.aminmax()):
                raise FloatingPointError(f"the denoiser returned values that are not finite at sigma = {sigma:.4g}")
            update = torch.lerp(denoised - x0, update, momentum)
            del denoised
            x0 = torch.add(x0, update, alpha=rate)
            x0 = x0 + ((y - x0.sum(1)) / stems).unsqueeze(1)
        yield State(x0, sigma, x0)
    return x0
