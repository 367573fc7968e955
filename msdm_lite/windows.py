"""Long pictures through a network of fixed span: overlapping windows, denoised jointly at every noise level."""

from collections.abc import Callable

import torch
from torch import Tensor

from msdm_lite.known import Known
from msdm_lite.model import Model


class Windowed:
    """The denoiser contract for pictures of any length: (B, S, bins, L), L as long as memory holds.

    The picture is cut into overlapping windows of the model's span; each is denoised, and where two overlap their
    guesses are cross-faded. This happens at every noise level, so neighbours agree long before the sound is finished.

    Args:
        overlap: share of a window that it has in common with the next.
        batch: windows that go through the network together.
        tick: called after each batch, for a progress bar.
    """

    def __init__(self, model: Model, overlap: float = 0.25, batch: int = 4, tick: Callable[[], None] | None = None):
        self.model, self.batch, self.tick = model, batch, tick or (lambda: None)
        self.span = model.config.frames
        self.shared = max(1, round(overlap * self.span))

    def starts(self, frames: int) -> list[int]:
        """First frame of each window; the last window ends with the picture."""
        if frames <= self.span:
            return [0]
        hop = self.span - self.shared
        return [*range(0, frames - self.span, hop), frames - self.span]

    def evaluations(self, items: int, frames: int) -> int:
        """How many batches one evaluation of the whole takes."""
        return -(-items * len(self.starts(frames)) // self.batch)

    def fade(self, like: Tensor, length: int) -> Tensor:
        """Weights of a window's frames: rising and falling over the shared part."""
        ramp = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / self.shared
        return torch.minimum(ramp, ramp.flip(0)).clamp(max=1)

    def __call__(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        known = Known.nothing(x) if known is None else known
        frames = x.shape[-1]
        length = min(self.span, frames)
        places = [(item, start) for item in range(len(x)) for start in self.starts(frames)]
        total, weight = torch.zeros_like(x), torch.zeros_like(x[..., :1, :])
        fade = self.fade(x, length)
        for some in (places[i : i + self.batch] for i in range(0, len(places), self.batch)):
            items = torch.tensor([item for item, _ in some], device=x.device)
            cut = torch.stack([x[item, ..., start : start + length] for item, start in some])
            guess = self.model.denoise(cut, sigma[items], Known(known.mixture[items], known.stems[items]))
            for (item, start), one in zip(some, guess, strict=True):
                total[item, ..., start : start + length] += one * fade
                weight[item, ..., start : start + length] += fade
            self.tick()
        return total / weight
