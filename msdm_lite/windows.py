"""Long pictures through a network of fixed span: overlapping windows, denoised jointly at every noise level."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from msdm_lite.face import StemModel
from msdm_lite.known import Known


class Windowed:
    """The denoiser contract for pictures of any length: (B, S, bins, L), L as long as memory holds.

    The picture is cut into overlapping windows of the model's span; each is denoised, and where two overlap their
    guesses are cross-faded. This happens at every noise level, so neighbours agree long before the sound is finished.
    The network's memory does not depend on L, also where gradients are taken.

    Args:
        overlap: share of a window that it has in common with the next.
        batch: windows that go through the network together; what suits the device if None.
        tick: called after each batch, for a progress bar.
    """

    def __init__(self, model: StemModel, overlap: float = 0.25, batch: int | None = None,
                 tick: Callable[[], None] | None = None):
        self.model, self.tick = model, tick or (lambda: None)
        self.batch = batch or (4 if torch.device(getattr(model, "device", "cpu")).type == "cpu" else 32)
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

    def __call__(self, x: Tensor, sigma: Tensor, known: Known | None = None, **pictures: Tensor) -> Tensor:
        """Denoised stems (B, S, bins, L). Other pictures (B, ..., L) that the model takes are cut alike."""
        frames = x.shape[-1]
        length = min(self.span, frames)
        places = [(item, start) for item in range(len(x)) for start in self.starts(frames)]
        total, weight = torch.zeros_like(x), x.new_zeros(len(x), 1, 1, frames)
        fade = self.fade(x, length)

        def cut(picture: Tensor, some: list[tuple[int, int]]) -> Tensor:
            return torch.stack([picture[item, ..., start : start + length] for item, start in some])

        for some in (places[i : i + self.batch] for i in range(0, len(places), self.batch)):
            items = torch.tensor([item for item, _ in some], device=x.device)
            flags = None if known is None else Known(known.mixture[items], known.stems[items])
            also = {name: cut(picture, some) for name, picture in pictures.items()}
            if x.requires_grad:  # what the network remembers is made again in the backward pass, window by window
                guess = checkpoint(self.model.denoise, cut(x, some), sigma[items], flags, use_reentrant=False, **also)
            else:
                guess = self.model.denoise(cut(x, some), sigma[items], flags, **also)
            for (item, start), one in zip(some, guess, strict=True):
                total[item, ..., start : start + length] += one * fade
                weight[item, ..., start : start + length] += fade
            self.tick()
        return total / weight
