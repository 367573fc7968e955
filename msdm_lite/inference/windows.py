"""Long spectrograms through a network of fixed span: overlapping windows, denoised jointly at every noise level.

Chapter: `book/12-longer-and-stranger.ipynb`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel

Place = tuple[int, int]  # of a window: its item of the batch, and its first frame


class Windowed:
    """The denoiser contract for spectrograms of any length: (B, S, bins, L).

    The spectrogram is cut into overlapping windows of the model's span; each is denoised, and the denoised estimates
    are joined by overlap-add. This happens at every noise level, so that neighbouring windows agree.
    The network's memory does not depend on L, also where gradients are taken.

    Args:
        overlap: share of a window that it has in common with the next.
        batch: windows that go through the network together; if None, 3 on a CPU and 32 on a GPU.
        tick: called after each batch, for a progress bar.

    Raises:
        InputError: an overlap outside [0, 1), or no window in a batch.
    """

    def __init__(self, model: StemModel, overlap: float = 0.25, batch: int | None = None,
                 tick: Callable[[], object] | None = None):
        if not 0 <= overlap < 1:
            raise InputError(f"windows overlap by a share from 0 to less than 1, not {overlap}")
        if batch is not None and batch < 1:
            raise InputError(f"{batch} windows cannot go through a network together: one or more")
        self.model = model
        self.tick: Callable[[], object] = tick or (lambda: None)
        self.batch = batch or (3 if torch.device(getattr(model, "device", "cpu")).type == "cpu" else 32)
        self.span = model.config.frames
        self.shared = min(max(1, round(overlap * self.span)), self.span - 1)  # so that the hop is at least one frame

    def starts(self, frames: int) -> list[int]:
        """First frame of each window; the last window ends with the spectrogram."""
        if frames <= self.span:
            return [0]
        hop = self.span - self.shared
        return [*range(0, frames - self.span, hop), frames - self.span]

    def batch_count(self, items: int, frames: int) -> int:
        """Number of batches in one evaluation of the whole."""
        return -(-items * len(self.starts(frames)) // self.batch)

    def fade(self, like: Tensor, length: int) -> Tensor:
        """Weights of a window, (1, length) by frame: rising and falling over the shared part.

        Where the rows of a frame are its samples one after the other they are (rows, length), by sample: a weight for
        each frame would be a staircase in the sound.
        """
        front_end: Any = getattr(self.model, "transform", None)
        rows = front_end.rows if getattr(front_end, "rows_are_samples", False) else 1
        ramp = (torch.arange(rows * length, device=like.device, dtype=like.dtype) + 0.5) / (self.shared * rows)
        return torch.minimum(ramp, ramp.flip(0)).clamp(max=1).view(length, rows).T

    def __call__(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Denoised stems (B, S, bins, L). Conditions (B, ..., L) of the model are cut in the same way."""
        joined: Tensor = _Joined.apply(x, sigma, conditioning, self)
        return joined

    def batches(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None, size: int | None = None
                ) -> Iterator[tuple[list[Place], Tensor, tuple[Tensor, Conditioning | None]]]:
        """Batches of windows: their places (item, start), and the arguments of the network."""
        size = size or self.batch
        length = min(self.span, x.shape[-1])
        places = [(item, start) for item in range(len(x)) for start in self.starts(x.shape[-1])]
        for some in (places[i : i + size] for i in range(0, len(places), size)):
            items = torch.tensor([item for item, _ in some], device=x.device)
            known = conditioning and windows_of(conditioning, items, some, length, x.shape[-1])
            yield some, cut(x, some, length), (sigma[items], known)

    def weights(self, x: Tensor) -> Tensor:
        """Sum of the fades over spectrograms (B, S, bins, L): (1, L), or (bins, L) where `fade` is by sample."""
        fade = self.fade(x, min(self.span, x.shape[-1]))
        weight = x.new_zeros(len(fade), x.shape[-1])
        for start in self.starts(x.shape[-1]):
            add(weight, fade, start)
        return weight


def cut(coefficients: Tensor, places: list[Place], length: int) -> Tensor:
    """Windows of a spectrogram (B, ..., L): (windows, ..., length)."""
    return torch.stack([coefficients[item, ..., start : start + length] for item, start in places])


def windows_of(conditioning: Conditioning, items: Tensor, places: list[Place], length: int, frames: int
               ) -> Conditioning:
    """The conditioning of windows: flags by item; what has the time axis of x, of so many frames, is cut like x."""
    known = conditioning.items(items)
    timed = {name: cut(value, places, length) for name, value in conditioning.conditions.items()
             if value.shape[-1] == frames and value.ndim > 1}
    span = conditioning.span
    if span is not None and span.shape[-1] == frames:
        span = cut(span.expand(len(conditioning.mixture), *span.shape[1:]), places, length)
    return replace(known, span=span, conditions={**known.conditions, **timed})


def add(total: Tensor, window: Tensor, start: int) -> None:
    """Add a window to a spectrogram, in place."""
    total[..., start : start + window.shape[-1]] += window


class _Joined(torch.autograd.Function):
    """Forward: windows, denoised and overlap-added. Backward: the same windows again, one batch in memory at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: Tensor, conditioning: Conditioning | None, windows: Windowed) -> Tensor:
        ctx.save_for_backward(x, sigma)
        ctx.rest = conditioning, windows
        total = torch.empty_like(x)  # for a long song every pass over it takes time
        fade, weights = windows.fade(x, min(windows.span, x.shape[-1])), windows.weights(x)
        end = 0
        for places, window, arguments in windows.batches(x, sigma, conditioning):
            for (item, start), guess in zip(places, windows.model.denoise(window, *arguments), strict=True):
                old = max(end - start, 0) if start else 0  # frames that the previous window has written
                end = start + fade.shape[-1]
                share = fade / weights[:, start:end]
                total[item, ..., start : start + old].addcmul_(guess[..., :old], share[:, :old])
                torch.mul(guess[..., old:], share[:, old:], out=total[item, ..., start + old : end])
            windows.tick()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x, sigma), (conditioning, windows) = ctx.saved_tensors, ctx.rest
        total = torch.zeros_like(x)
        fade, gradient = windows.fade(x, min(windows.span, x.shape[-1])), gradient / windows.weights(x)
        alone = 1 if x.device.type == "cpu" else None  # activations of three windows would take half a gigabyte
        for places, window, arguments in windows.batches(x, sigma, conditioning, alone):
            with torch.enable_grad():
                window.requires_grad_()
                guess = windows.model.denoise(window, *arguments)
            found = torch.autograd.grad(guess, window, cut(gradient, places, window.shape[-1]) * fade)[0]
            for (item, start), one in zip(places, found, strict=True):
                add(total[item], one, start)
        return total, None, None, None
