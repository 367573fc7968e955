"""The base class of all models, so that what `msdm_lite.load` returns is used in one way for every kind.

Chapter: `book/09-does-context-matter.ipynb`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from msdm_lite.audio.front_end import FrontEnd
from msdm_lite.audio.sketch import sketch
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import error
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError
from msdm_lite.utils.registry import Registry

LEAST_STD = 2e-4  # of a measured bin: 50 dB below a stem's level in the corpus


@dataclass(frozen=True)
class TrainingDefaults:
    """What a model is trained with where the recipe says nothing.

    Args:
        optimizer: see `msdm_lite.training.optimizer`.
        rates: peak learning rate with each optimizer.
        levels: mean and standard deviation of ln sigma, where the mixture is unknown.
        shares: of crops in which nothing, the mixture, stems, both are known.
        sketched: share of the crops, among those with unknown mixture, that come with their sketch.
        beat_share: share of the crops that come with their beat phase.
    """

    optimizer: str = "muon"
    rates: Mapping[str, float] = field(default_factory=lambda: {"muon": 3e-3, "adamw": 1e-3})
    levels: tuple[float, float] = (-1.2, 1.4)
    shares: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    sketched: float = 0.0
    beat_share: float = 0.0


@dataclass(frozen=True)
class ParameterGroups:
    """The weights of a model, each in one group: an optimizer may treat the groups differently.

    Args:
        hidden: weight matrices and convolutions between the first and the last layer.
        edge: those of the first and the last layers, and embeddings.
        vectors: norms and biases, which have no weight decay.
    """

    hidden: list[nn.Parameter]
    edge: list[nn.Parameter]
    vectors: list[nn.Parameter]


class StemModel(nn.Module):
    """A denoiser, its front end, and the names of its stems.

    Samplers and guidances use `denoise` alone; `msdm_lite.separate` also uses the front end, and
    `msdm_lite.training.loop.fit` the loss, the defaults, the groups of parameters and `fit_statistics`. A model of
    one's own overrides what differs: `denoise` at the least.

    Args:
        config: has `stems`, `sample_rate`, `frames`, `stem_rms` and `mixture_rms`, see `models.config.Config`; a
            segment of one stem is (transform.rows, frames).
        denoiser: maps noisy stems to clean ones.
        transform: the front end, see `msdm_lite.audio.front_end`.
    """

    takes_conditioning: bool  # trained with known stems or mixture, or with noise on all stems only
    takes_mixture = False  # can be conditioned on the mixture while all stems are noisy: the condition "mixture"
    makes_sound = True  # or only sketches
    training_defaults = TrainingDefaults()
    memory_format: torch.memory_format = torch.contiguous_format
    denoiser: Any  # a module whose attributes depend on the kind of model

    def __init__(self, config: Any, denoiser: nn.Module, transform: FrontEnd):
        super().__init__()
        self.config, self.denoiser, self.transform = config, denoiser, transform
        self.record: dict[str, Any] = {}  # of the training

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

    def sketch_of(self, x: Tensor) -> Tensor:
        """The sketch (..., bands, L) of clean coefficients x (..., rows, L), for a model that decodes sketches."""
        return sketch(x, self.config.sketch, self.config.stem_rms)

    def require_stems(self, stems: Sequence[str]) -> None:
        """Check that the model has exactly these stems in this order.

        Raises:
            InputError: it has others, or another order.
        """
        if tuple(self.stems) != tuple(stems):
            raise InputError(f"data with the stems {', '.join(stems)} is not for a model of {', '.join(self.stems)}")

    @property
    def takes_sketch(self) -> bool:
        """Whether it was trained to decode sketches, which are the condition `sketch` of its denoiser."""
        return self.record.get("recipe", {}).get("sketched", self.training_defaults.sketched) > 0

    @property
    def takes_beat_phase(self) -> bool:
        """Whether it was trained with beat conditioning, the condition `beat_phase` of its denoiser."""
        return self.record.get("recipe", {}).get("beat_share", self.training_defaults.beat_share) > 0

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
    def stem_rms(self) -> float | None:
        """The active RMS of a stem in training, to which sounds are brought. If None they are used as they are."""
        return self.config.stem_rms

    @property
    def mixture_rms(self) -> float | None:
        """The active RMS of a mixture in training, as `stem_rms`."""
        if self.config.mixture_rms is not None or self.stem_rms is None:
            return self.config.mixture_rms
        return self.stem_rms * math.sqrt(len(self.stems))  # of stems without correlation

    def configure(self, **settings: object) -> None:
        """Change settings of the configuration that do not change the network, such as `stem_rms`."""
        self.config = replace(self.config, **settings)

    @property
    def segment(self) -> float:
        """Length of a training crop, in seconds."""
        return self.config.frames * self.transform.hop / self.config.sample_rate

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
        if conditioning is not None:
            conditioning.require("this model")
        return self.denoiser(x, sigma, conditioning)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """The training loss for each item of clean x (B, S, rows, L) and white noise of that shape: (B,).

        It is the weighted error of `denoise`, see `msdm_lite.diffusion.denoiser.error`.
        """
        x0 = self.denoise(add_noise(x, sigma, conditioning, n=noise), sigma, conditioning)
        return error(x0, x, sigma, self.variance[..., 0].sqrt()) / (~conditioning.stems).float().mean(1)

    def fit_statistics(self, coefficients: Iterable[Tensor]) -> None:
        """Measure what the model keeps of its training data: the standard deviation of each stem and bin, (S, rows).

        Args:
            coefficients: of training crops, (B, S, rows, L) each.
        """
        powers = [x.square().mean((0, -1)) for x in coefficients]
        self.denoiser.std.copy_((reduce(torch.add, powers) / len(powers)).sqrt().clamp(min=LEAST_STD))

    def param_groups(self) -> ParameterGroups:
        """The weights in groups. Modules name those of their children that are edges in `edge_layers`."""
        edges = [getattr(module, name) for module in self.modules() for name in getattr(module, "edge_layers", ())]
        outer = {id(p) for module in edges for p in module.parameters()}
        groups = ParameterGroups([], [], [])
        for p in self.parameters():
            (groups.vectors if p.ndim <= 1 else groups.edge if id(p) in outer else groups.hidden).append(p)
        return groups

    def to_device(self, device: torch.device) -> "StemModel":
        """The model on a device, in its memory format."""
        return self.to(device).to(memory_format=self.memory_format)


# The models by the task in their configuration; each is built from a configuration
TASKS: Registry[Callable[[Any], StemModel]] = Registry("task")
