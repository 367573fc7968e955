"""What a separation is measured against: doing nothing, and the best that a mask could do.

Neither asks a model. The mask knows the true stems, so it is no method; it is a ceiling for all that only share out the
magnitude of the mixture and keep its phase. Chapter: `book/10-measuring.ipynb`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WINDOW, HOP = 2048, 512  # samples of the spectrogram


def nothing(stems: Tensor) -> Tensor:
    """The mixture of (S, T) in place of every stem: an improvement of 0 dB by definition."""
    return stems.sum(0).expand_as(stems)


def ideal_mask(stems: Tensor) -> Tensor:
    """Each stem of (S, T) as its share of the magnitudes lets it through from the mixture: the ideal ratio mask."""
    shape = torch.hann_window(WINDOW).to(stems)
    spectra = torch.stft(stems, WINDOW, HOP, window=shape, return_complex=True)  # (S, F, L)
    shares = spectra.abs() / spectra.abs().sum(0).clamp(min=1e-12)
    return torch.istft(shares * spectra.sum(0), WINDOW, HOP, window=shape, length=stems.shape[-1])


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {"mixture": nothing, "ideal-mask": ideal_mask}
