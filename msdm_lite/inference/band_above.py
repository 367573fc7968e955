"""Stems at a higher rate than the model's: what lies above its band is shared out, so that stems still sum to the mix.

A model at 22 050 Hz hears nothing above 11 025 Hz. What the input has there goes to the stems in proportion to their
power just below (8 to 11 kHz), by short time frame. It is a guess, not a separation, and it costs nothing: the sum is
right, cymbals keep most of their air, and a bass gets next to none. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from msdm_lite.audio.io import resample

LOW, HIGH = 8000 / 11025, 11000 / 11025  # of the Nyquist frequency: the band in which power is measured
WINDOW, HOP = 2048, 512  # samples at the model's rate
BLOCK = 2**20  # output samples that are worked on at once
MOST = 4096  # frames of which a spectrum is taken at once


def shares(stems: Tensor) -> Tensor:
    """Each stem's share (S, frames) of the power of stems (S, T) in the top of their band; shares sum to 1.

    Where no stem has power there, shares are those of the whole band; where all are silent, they are equal.
    """
    high, all_of_it = zip(*map(_powers, stems), strict=True)
    top, whole = torch.stack(high), torch.stack(all_of_it)
    power = torch.where(top.sum(0) > 1e-14 * whole.sum(0), top, whole)
    total = power.sum(0)
    return torch.where(total > 0, power / total.clamp(min=1e-300), 1 / len(stems)).float()


def _powers(stem: Tensor) -> tuple[Tensor, Tensor]:
    """The power (frames,) of a stem (T,) in the top of its band, and in all of it; frame k is about sample k HOP."""
    window, frames = torch.hann_window(WINDOW), 1 + len(stem) // HOP
    padded = torch.nn.functional.pad(stem.float(), (WINDOW // 2, WINDOW // 2 + HOP))
    first, last = round(LOW * WINDOW / 2), round(HIGH * WINDOW / 2)
    high, whole = [], []
    for start in range(0, frames, MOST):  # a spectrum takes several times the memory of its sound
        stop = min(start + MOST, frames)
        part = padded[start * HOP : (stop - 1) * HOP + WINDOW]
        power = torch.stft(part, WINDOW, HOP, window=window, center=False, return_complex=True).abs().double().square()
        high.append(power[first:last].sum(0))
        whole.append(power.sum(0))
    return torch.cat(high), torch.cat(whole)


def extended(stems: Tensor, mix: Tensor, whole: Tensor, from_rate: int, to_rate: int,
             known: Mapping[int, Tensor] | None = None) -> Tensor:
    """Stems (S, T') or (S, C, T') at another rate, which sum to `whole` as far as `stems` sum to `mix`.

    Args:
        stems: (S, T) or (S, C, T) at the rate of the model.
        mix: the mixture that was separated, (T,) or (C, T), at the rate of the model.
        whole: the same sound at the other rate, (T',) or (C, T'), with what lies above the model's band.
        from_rate: the rate of the model, in Hz.
        to_rate: the rate of `whole`, in Hz.
        known: given stems by number, at the other rate, of the shape of `whole`; they come back as they are.
    """
    known = known or {}
    length = whole.shape[-1]
    above = whole - fitted(resample(mix, from_rate, to_rate), length)
    out = torch.empty(len(stems), *whole.shape)
    for n, stem in enumerate(stems):
        out[n] = fitted(resample(stem, from_rate, to_rate), length)
    for n, wave in known.items():  # what a given stem has above the band is not shared out
        above -= wave - out[n]
        out[n] = wave
    free = [n for n in range(len(stems)) if n not in known]
    of_sides = out[:, None] if whole.ndim == 1 else out  # (S, C, T'), the same memory
    for side, (lost, heard) in enumerate(zip(torch.atleast_2d(above), _sides(stems[free]), strict=True)):
        _add([of_sides[n, side] for n in free], lost, shares(heard), from_rate / to_rate / HOP)
    return out


def _sides(stems: Tensor) -> list[Tensor]:
    """Stems (S, T) of each side of (S, T) or (S, C, T)."""
    return [stems] if stems.ndim == 2 else list(stems.unbind(1))


def _add(stems: list[Tensor], above: Tensor, share: Tensor, frames: float) -> None:
    """Add to each of the stems, (T,) each, its share of what lies above; shares are interpolated between frames.

    `frames` is the number of frames in a sample.
    """
    for start in range(0, len(above), BLOCK):
        part = above[start : start + BLOCK]
        place = torch.arange(start, start + len(part), dtype=torch.float64) * frames
        frame = place.floor().long().clamp(max=share.shape[1] - 1)
        following = (frame + 1).clamp(max=share.shape[1] - 1)
        weight = (place - frame).clamp(max=1).float()
        for stem, one in zip(stems, share, strict=True):
            stem[start : start + BLOCK] += torch.lerp(one[frame], one[following], weight) * part


def fitted(wave: Tensor, length: int) -> Tensor:
    """A wave (..., T) with silence behind it, or cut, to a length."""
    return torch.nn.functional.pad(wave[..., :length], (0, max(0, length - wave.shape[-1])))
