"""Between a waveform of any length and level, and the coefficients that models work on.

Chapter: `book/12-longer-and-stranger.ipynb`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel


def check_samples(wave: Tensor, model: StemModel, what: str = "the mixture") -> None:
    """Raises InputError for samples (..., T) that are not finite or shorter than a tenth of a second."""
    T = wave.shape[-1]
    if T / model.sample_rate < 0.1:
        raise InputError(f"{what}: {T / model.sample_rate:.3f} s is too short: a tenth of a second is the least")
    if not torch.isfinite(wave).all():
        raise InputError(f"{what} has samples that are not finite")


LEVELS = ("training", "keep")


def require_level(level: str) -> None:
    """Raises InputError for another word than `LEVELS` has."""
    if level not in LEVELS:
        raise InputError(f"a sound is brought to the level of training, or kept: level is {' or '.join(LEVELS)}, not "
                         f"{level!r}")


def gain_for(rms: float, wanted: float | None, level: str = "training") -> float:
    """The gain that brings a sound of an RMS to that of training; 1 for a model without one, or if the level is kept.

    Raises:
        InputError: `level` is no word of `LEVELS`.
    """
    require_level(level)
    return 1.0 if wanted is None or level == "keep" else wanted / rms


def encoded_shape(model: StemModel, samples: int) -> tuple[int, int]:
    """(bins, L) of the coefficients that `encode` returns for so many samples."""
    return model.transform.rows, model.transform.length(samples)


def encode(wave: Tensor, model: StemModel, gain: float = 1.0) -> Tensor:
    """MDCT spectrogram (bins, L) or (S, bins, L) of samples (T,) or (S, T) of any length, on the model's device.

    A hop of silence is added on each side: the transform is circular, and the end must not sound in the beginning.
    """
    if wave.ndim > 1:
        return torch.stack([encode(one, model, gain) for one in wave])
    return model.transform.encode(wave.float() * gain).to(model.device)


def encode_stems(waves: Mapping[int, Tensor], model: StemModel, samples: int, gain: float = 1.0) -> Tensor:
    """Spectrogram (1, S, bins, L) of stems by number, (T,) each; missing stems are silent."""
    out = torch.zeros(1, len(model.stems), *encoded_shape(model, samples), device=model.device)
    for n, wave in waves.items():  # one at a time: the transform needs several times its input's memory
        out[0, n] = encode(wave, model, gain)
    return out


def decode(coefficients: Tensor, model: StemModel, samples: int, gain: float = 1.0) -> Tensor:
    """Samples (..., T) of a spectrogram (..., bins, L), on the CPU."""
    out = torch.empty(*coefficients.shape[:-2], samples)
    each = coefficients.reshape(-1, *coefficients.shape[-2:])
    for place, one in zip(out.view(-1, samples), each, strict=True):
        torch.mul(model.transform.decode(one.cpu(), samples), gain, out=place)
    return out
