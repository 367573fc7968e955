"""Faults of recordings that spoil a separation: clipping, sides that cancel, an offset, clicks.

Each is measured on samples; the words are for the terminal. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import math

import torch
from torch import Tensor

CLIPPED = 1e-3  # share of samples from which clipping is said
CANCELLED = 10.0  # dB by which the mean of two sides may be softer than they are; 3 dB where they are independent
OFFSET = 0.08  # of the RMS: the mean of some synthetic instruments is up to 0.07 of it
CLICK = 15.0  # times the RMS around it; the attacks of our clips reach 9
SIDE, SPAN = 256, 16  # samples on each side of a click that are compared with it, and that it may have rung
MANY = 4  # clicks in a window
WINDOW = 5512  # samples, a quarter of a second at 22 050 Hz


def clipped(wave: Tensor) -> float:
    """Share of samples (..., T) in runs of three or more at the highest value of their channel, 0 if below `CLIPPED`.

    A sound that is not clipped reaches its peak in single samples.
    """
    if wave.shape[-1] < 3 or not wave.numel():
        return 0.0
    found = 0
    for channel in wave if wave.ndim == 2 else wave.reshape(-1, wave.shape[-1]):
        for limit, side in ((channel.max(), 1), (channel.min(), -1)):
            if side * limit <= 1e-3:
                continue
            top = side * channel >= 0.9999 * side * limit
            run = top[2:] & top[1:-1] & top[:-2]
            if not run.any():
                continue
            inside = torch.zeros_like(top)
            for shift in range(3):
                inside[shift : len(top) - 2 + shift] |= run
            found += int(inside.sum())
    share = found / wave.numel()
    return share if share >= CLIPPED else 0.0


def about_clipping(share: float) -> str:
    """One line for a share of clipped samples."""
    return f"{100 * share:.1f} % of the samples are clipped: the distortion lands in the stems"


def cancelled(sides: Tensor, mixed: Tensor) -> float:
    """The dB by which the mean (T,) of channels (C, T) is softer than they are; 0 if at most `CANCELLED`, or silent."""
    loud = float(torch.linalg.vector_norm(sides, dtype=torch.float64)) / math.sqrt(max(1, len(sides)))
    left = float(torch.linalg.vector_norm(mixed, dtype=torch.float64))
    if len(sides) < 2 or loud == 0:
        return 0.0
    lost = 20 * math.log10(loud / left) if left > 1e-9 * loud else 180.0
    return lost if lost > CANCELLED else 0.0


def about_sides(lost: float) -> str:
    """One line for sides that cancel."""
    less = f"{lost:.0f} dB softer than they are" if lost < 150 else "nothing"
    return f"its sides cancel in mono, and their mean is {less}: take the sides one by one (in stereo)"


def offset(wave: Tensor) -> float:
    """The mean of a sound (T,) if it is no part of the sound: more than `OFFSET` of the RMS around it; else 0."""
    if not len(wave):
        return 0.0
    mean = float(wave.mean(dtype=torch.float64))
    power = float(torch.linalg.vector_norm(wave, dtype=torch.float64)) ** 2 / len(wave)
    around = math.sqrt(max(0.0, power - mean**2))
    # The mean of noise is about 1 / sqrt(T) of its RMS; a sound that is all offset has no level to be set to
    return mean if 1e-4 * abs(mean) < around and abs(mean) > max(OFFSET, 5 / math.sqrt(len(wave))) * around else 0.0


def clicks(wave: Tensor) -> list[tuple[int, int]]:
    """Clicks of a sound (T,): first sample of each, and the one behind its last, in order.

    A click is a sample `CLICK` times as high as the RMS of the 240 samples on either side of it. Musical attacks are
    followed by sound, and so are none. More than `MANY` in a quarter of a second are a sound, such as pulses.
    """
    if len(wave) <= 2 * SIDE:
        return []
    found: list[tuple[int, int]] = []
    windows = wave[: len(wave) // WINDOW * WINDOW].reshape(-1, WINDOW)
    tail = wave[-WINDOW:] if len(wave) % WINDOW else wave[:0]
    for begin, part in [*((n * WINDOW, row) for n, row in _peaked(windows)), *_peaked_tail(tail, len(wave))]:
        here: list[tuple[int, int]] = []
        for place in part.abs().topk(min(4 * MANY, len(part))).indices.tolist():
            at = begin + place
            if at < SIDE or at >= len(wave) - SIDE or any(first <= at < last for first, last in here):
                continue
            sides = [wave[at - SIDE : at - SPAN], wave[at + SPAN + 1 : at + SIDE + 1]]
            level = max(float(torch.linalg.vector_norm(side)) / math.sqrt(len(side)) for side in sides)
            if float(wave[at].abs()) <= CLICK * max(level, 1e-9):
                continue
            ends = [next((n for n in range(1, SPAN) if float(wave[at + step * n].abs()) < 4 * level), SPAN)
                    for step in (-1, 1)]
            here.append((at - ends[0] + 1, at + ends[1]))
        if len(here) <= MANY:
            found += here
    return sorted(set(found))


def _peaked(windows: Tensor) -> list[tuple[int, Tensor]]:
    """Rows with a sample 6 times as high as their RMS, by number. Few rows of music have one."""
    if not len(windows):
        return []
    low, high = windows.aminmax(dim=1)
    peaks = torch.maximum(-low, high)
    rms = torch.linalg.vector_norm(windows, dim=1) / math.sqrt(windows.shape[1])
    return [(n, windows[n]) for n in (peaks > 6 * rms).nonzero().flatten().tolist()]


def _peaked_tail(tail: Tensor, length: int) -> list[tuple[int, Tensor]]:
    return [(length - len(tail), row) for _, row in _peaked(tail[None])] if len(tail) else []


def repaired(wave: Tensor) -> tuple[Tensor, float, list[tuple[int, int]]]:
    """A sound (T,) without its offset and its clicks, which are bridged by straight lines; the offset; the clicks.

    A sound without such faults is returned as it is, the same tensor.
    """
    mean = offset(wave)
    found = clicks(wave - mean if mean else wave)
    if not found:  # a click makes no offset, since it is short
        return (wave - mean, mean, []) if mean else (wave, 0.0, [])
    out = wave - mean
    for first, last in found:
        steps = torch.linspace(0, 1, last - first + 2).to(out)[1:-1]
        out[first:last] = torch.lerp(out[first - 1], out[last], steps)
    return out, mean, found


def about_repairs(mean: float, found: list[tuple[int, int]], wave: Tensor, sample_rate: int, effect: str) -> list[str]:
    """A line for the offset and one for the clicks that `repaired` finds in a sound (T,), with what comes of them."""
    lines = [f"an offset of {mean:+.3g} {effect}"] if mean else []
    if found:
        first, last = max(found, key=lambda place: float((wave[place[0] : place[1]] - mean).abs().max()))
        high = float((wave[first:last] - mean).abs().max())
        many = "a click" if len(found) == 1 else f"{len(found)} clicks"
        lines.append(f"{many} (up to {high:.3g}, at {first / sample_rate:.2f} s) {effect}")
    return lines
