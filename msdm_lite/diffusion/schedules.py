"""Noise schedules: decreasing noise levels, the last of them 0. Chapter: `book/03-noise-and-sampling.ipynb`.

Source: Karras et al. (EDM, arXiv 2206.00364), equation 5.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.utils.registry import Registry

#: `schedule(steps, sigma_min, sigma_max)` returns so many decreasing noise levels, and a final 0.
Schedule = Callable[[int, float, float], list[float]]
#: Schedules by name.
SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register("karras")
def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` decreasing noise levels, dense at the low end, and a final 0 (EDM, equation 5).

    Raises:
        InputError: no steps, rho not above 0, or not 0 < sigma_min <= sigma_max.
    """
    if rho <= 0:
        raise InputError(f"the exponent rho must be above 0, not {rho}")
    ramp = _ramp(steps, sigma_min, sigma_max)
    levels = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return [*levels.tolist(), 0.0]


@SCHEDULES.register("exponential")
def exponential(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` noise levels with a constant ratio below 1, and a final 0.

    Raises as `karras`.
    """
    ramp = _ramp(steps, sigma_min, sigma_max)
    levels = torch.exp(math.log(sigma_max) + ramp * (math.log(sigma_min) - math.log(sigma_max)))
    return [*levels.tolist(), 0.0]


@SCHEDULES.register("linear")
def linear(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """`steps` decreasing noise levels at equal distances, and a final 0.

    Raises as `karras`.
    """
    return [*(sigma_max + _ramp(steps, sigma_min, sigma_max) * (sigma_min - sigma_max)).tolist(), 0.0]


MOST = 100_000  # noise levels; the paper has 150


def _ramp(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """0 to 1 in that many steps, (steps,), after a check of the schedule. Raises InputError as `karras`."""
    if not (1 <= steps <= MOST and 0 < sigma_min <= sigma_max < float("inf")) or (steps > 1 and sigma_min == sigma_max):
        raise InputError(f"{steps} noise levels from {sigma_max} down to {sigma_min} make no schedule")
    return torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)


def check_levels(sigmas: list[float]) -> None:
    """Check noise levels before anything is computed.

    Raises:
        InputError: they do not decrease, or are below 0 or infinite.
    """
    if len(sigmas) < 2 or not all(a > b for a, b in pairwise(sigmas)) or not 0 <= sigmas[-1] < sigmas[0] < float("inf"):
        raise InputError("noise levels must decrease from the first to the last, which is 0 or more")
