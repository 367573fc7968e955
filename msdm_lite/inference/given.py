"""Given stems beside their mix: as loud, and as early, as they are in it? Chapter: `book/08-imputation.ipynb`."""

import logging
import math

import torch
from torch import Tensor

LOG = logging.getLogger("msdm_lite")

MOST = 1.0  # seconds: the largest delay that is looked for
LEAST = 0.002  # seconds: the smallest that is said
LONGEST = 60.0  # seconds of sound that are compared, from the middle


def fit(stem: Tensor, mix: Tensor, rate: int) -> tuple[float, float, float]:
    """How a stem (T,) lies in a mix (T,): delay in seconds, factor of the stem in the mix there, and without the delay.

    The factor is <mix, stem> / <stem, stem>, close to 1 for a stem that is in the mix as it is and unlike the others.
    The delay is above zero for a stem that comes later than it is in the mix. Silence gives (0, 1, 1).
    """
    length = min(len(mix), len(stem), round(LONGEST * rate))
    start = (min(len(mix), len(stem)) - length) // 2
    a, b = (wave[start : start + length].double() for wave in (mix, stem))
    energy = float(b.square().sum())
    if energy == 0 or not a.any():
        return 0.0, 1.0, 1.0
    most = min(round(MOST * rate), length - 1)
    size = 1 << (length + most).bit_length()
    cross = torch.fft.irfft(torch.fft.rfft(a, size) * torch.fft.rfft(b, size).conj(), size)
    lags = torch.cat([cross[-most:], cross[: most + 1]]) if most else cross[:1]  # mix late by -most .. most
    best = int(lags.argmax())
    return (most - best) / rate, float(lags[best]) / energy, float(lags[most]) / energy


def warn_of_misfit(name: str, stem: Tensor, mix: Tensor, rate: int) -> None:
    """Warn if a given stem (T,) is late or early against the mix (T,), or too loud to be in it, with the figure."""
    delay, factor, here = fit(stem, mix, rate)
    power, of_mix = (float(wave.double().square().mean()) for wave in (stem, mix))
    correlation = factor * math.sqrt(power / of_mix) if of_mix > 0 else 0.0
    if abs(delay) >= LEAST and correlation > 0.2 and 0.5 < factor < 1.6 and here < 0.7 * factor:
        LOG.warning("%s seems to be %.0f ms %s against the mix: what is separated suffers; move it by that much", name,
                    1000 * abs(delay), "late" if delay > 0 else "early")
    else:
        factor, correlation = here, here * math.sqrt(power / of_mix) if of_mix > 0 else 0.0
    if power > 2 * of_mix > 0:
        LOG.warning("%s is %.1f dB louder than the whole mix, too loud to be in it: turn it down", name,
                    10 * math.log10(power / of_mix))
    elif correlation > 0.3 and 0 < factor < 0.7:
        LOG.warning("%s seems to be %.1f dB louder than it is in the mix: turn it down", name,
                    -20 * math.log10(factor))
