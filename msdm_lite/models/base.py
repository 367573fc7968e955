"""The base class of all models, so that what `msdm_lite.load` returns is used in one way for every kind.

Chapter: `book/09-does-context-matter.ipynb`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError


class StemModel(nn.Module):
    """A denoiser, its front end, and the names of its stems.

    Samplers and guidances use `denoise` alone; `msdm_lite.separate` also uses the front end, and
    `msdm_lite.training.loop` the loss.

    Args:
        config: has `stems`, `sample_rate`, `bins` and `frames`: a segment of one stem is (bins, frames).
        denoiser: maps noisy stems to clean ones.
        transform: the front end, `forward` (..., T) -> (..., bins, L) and `inverse`.
    """

    takes_conditioning: bool  # trained with known stems or mixture, or with noise on all stems only
    takes_mixture = False  # can be conditioned on the mixture while all stems are noisy, as `denoise(..., mixture=y)`
    makes_sound = True  # or only sketches
    sketched = 0.0  # share of training crops, among those with unknown mixture, that come with their sketch
    beat_share = 0.0  # share of training crops that come with their beat phase
    levels = (-1.2, 1.4)  # mean and standard deviation of ln sigma in training, where the mixture is unknown
    shares = (1.0, 0.0, 0.0, 0.0)  # of training crops in which nothing, the mixture, stems, both are known
    denoiser: Any  # a module whose attributes depend on the kind of model
    loss: Callable[..., Tensor]  # (x, sigma, conditioning, noise, sketched) -> (B,)

    def __init__(self, config, denoiser: nn.Module, transform):
        super().__init__()
        self.config, self.denoiser, self.transform = config, denoiser, transform
        self.record: dict = {}  # of the training

    def trained_for(self, mixture: bool = False, stems: bool = False) -> bool:
        """Whether it was trained with this conditioning: the mixture known, some stems known, or both.

        This is read from the training record; without one, every conditioning that the model takes counts as trained.
        """
        if not self.takes_conditioning or len(self.stems) == 1:  # a single stem is its own mixture
            return not (mixture or stems)
        recipe = self.record.get("recipe", {})
        share = recipe.get("known_share")  # in records from before stems were known in training
        shares = recipe.get("shapes", [1, 1, 1, 1] if share is None else [1 - share, share, 0, 0])
        return shares[mixture + 2 * stems] > 0

    def require_sound(self) -> None:
        """Check that the model generates sound.

        Raises:
            InputError: it generates sketches only.
        """
        if not self.makes_sound:
            raise InputError("this model generates sketches and no sound: pass it as the sketch, with a model that "
                             "decodes them")

    def require_decoder(self) -> None:
        """Check that the model can decode sketches.

        Raises:
            InputError: it was trained without sketches.
        """
        if not self.takes_sketch:
            raise InputError("this model was not trained to decode sketches")

    def require_stems(self, stems: Sequence[str]) -> None:
        """Check that the model has exactly these stems in this order.

        Raises:
            InputError: it has others, or another order.
        """
        if tuple(self.stems) != tuple(stems):
            raise InputError(f"data with the stems {', '.join(stems)} is not for a model of {', '.join(self.stems)}")

    @property
    def takes_sketch(self) -> bool:
        """Whether it was trained to decode sketches, as `denoise(..., sketch=sketch)`."""
        return self.record.get("recipe", {}).get("sketched", self.sketched) > 0

    @property
    def takes_beat_phase(self) -> bool:
        """Whether it was trained with beat conditioning, as `denoise(..., beat_phase=phase)`."""
        return self.record.get("recipe", {}).get("beat_share", self.beat_share) > 0

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in order."""
        return self.config.stems

    def stem_index(self, name: str) -> int:
        """The index of the stem with this name.

        Raises:
            InputError: the model has no such stem.
        """
        if name not in self.stems:
            raise InputError(f"the model has no stem {name!r}: it has {', '.join(self.stems)}")
        return self.stems.index(name)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.config.sample_rate

    @property
    def segment(self) -> float:
        """Length of a training crop, in seconds."""
        return self.config.frames * self.config.bins / self.config.sample_rate

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.parameters()).device

    @property
    def variance(self) -> Tensor:
        """Prior variance of each stem's coefficients, (S, bins, 1) or (S, 1, 1)."""
        return self.denoiser.std.square()[:, :, None]

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract: coefficients (B, S, bins, L) at noise level sigma (B,) to clean ones."""
        return self.denoiser(x, sigma, conditioning)
