"""What all models have in common: what `msdm_lite.load` returns can be used without knowing which kind it is.

Chapter: `book/09-does-context-matter.ipynb`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError


class StemModel(nn.Module):
    """A denoiser, the front end it works behind, and what it calls its stems.

    Samplers and guidances use `denoise` alone; `msdm_lite.separate` also the front end, and `msdm_lite.training.loop`
    the loss.

    Args:
        config: with `stems`, `sample_rate`, `bins` and `frames`: a segment is a picture (bins, frames).
        denoiser: from noisy stems to clean ones.
        transform: the front end, `forward` (..., T) -> (..., bins, L) and `inverse`.
    """

    takes_conditioning: bool  # trained on every shape of noise, or on noise on all stems alone
    takes_mixture = False  # can be conditioned on the mixture while all stems are noisy, as `denoise(..., mixture=y)`
    makes_sound = True  # or only sketches of it
    sketched = 0.0  # share of training crops, the mixture unknown, that come with their sketch
    beat_share = 0.0  # share of training crops that come with their click
    levels = (-1.2, 1.4)  # mean and deviation of ln sigma in training, where the mixture is unknown
    shares = (1.0, 0.0, 0.0, 0.0)  # of training crops in which nothing, the mixture, stems, both are known
    denoiser: Any  # a module; its parts are those of the kind of model
    loss: Callable[..., Tensor]  # (x, sigma, known, noise, sketched) -> (B,)

    def __init__(self, config, denoiser: nn.Module, transform):
        super().__init__()
        self.config, self.denoiser, self.transform = config, denoiser, transform
        self.record: dict = {}  # how the weights came to be

    def trained_for(self, mixture: bool = False, stems: bool = False) -> bool:
        """Was it trained with noise of the shape in which the mixture, some stems, or both are known?

        The record says so; a model without one is taken to have learned all that it can take.
        """
        if not self.takes_conditioning or len(self.stems) == 1:  # of one stem alone there is nothing else to know
            return not (mixture or stems)
        recipe = self.record.get("recipe", {})
        share = recipe.get("known_share")  # of records before the other shapes were learned
        shares = recipe.get("shapes", [1, 1, 1, 1] if share is None else [1 - share, share, 0, 0])
        return shares[mixture + 2 * stems] > 0

    def require_sound(self) -> None:
        """Refuse, early, a model that makes no sound.

        Raises:
            InputError: it makes sketches and no sound.
        """
        if not self.makes_sound:
            raise InputError("a sketch has no sound of its own: name it as the sketch, beside a model that decodes it")

    def require_decoder(self) -> None:
        """Refuse, early, a model that cannot be conditioned on a sketch.

        Raises:
            InputError: it was trained without any.
        """
        if not self.takes_sketch:
            raise InputError("this model was not trained to decode sketches")

    def require_stems(self, stems: Sequence[str]) -> None:
        """Refuse, early, a model of other stems than what it is to be held to, or in another order.

        Raises:
            InputError: it plays others.
        """
        if tuple(self.stems) != tuple(stems):
            raise InputError(f"what has the stems {', '.join(stems)} is not for a model of {', '.join(self.stems)}")

    @property
    def takes_sketch(self) -> bool:
        """Was it trained to decode sketches, as `denoise(..., sketch=sketch)`?"""
        return self.record.get("recipe", {}).get("sketched", self.sketched) > 0

    @property
    def takes_beat_phase(self) -> bool:
        """Was it trained to hear a click, as `denoise(..., click=count)`?"""
        return self.record.get("recipe", {}).get("beat_share", self.beat_share) > 0

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in their order."""
        return self.config.stems

    def stem_index(self, name: str) -> int:
        """The number of a stem by its name, counted from 0.

        Raises:
            InputError: the model has no such stem.
        """
        if name not in self.stems:
            raise InputError(f"the model has no stem {name!r}: it has {', '.join(self.stems)}")
        return self.stems.index(name)

    @property
    def sample_rate(self) -> int:
        """Samples a second of its sound."""
        return self.config.sample_rate

    @property
    def segment(self) -> float:
        """Length in seconds of what it was trained on."""
        return self.config.frames * self.config.bins / self.config.sample_rate

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def variance(self) -> Tensor:
        """How much each stem's coefficients vary, (S, bins, 1) or (S, 1, 1), as the model knows before it looks."""
        return self.denoiser.std.square()[:, :, None]

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract: pictures (B, S, bins, L) at level sigma (B,) to clean ones."""
        return self.denoiser(x, sigma, conditioning)
