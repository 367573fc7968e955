"""The models of all stems at once: a denoiser, the front end it works behind, and the names of its stems.

- `Model`: the joint model of MDCT spectrograms, trained with every conditioning. Chapter: `book/04-joint-unet.ipynb`.
- `Guided`: all stems noisy, the mixture a further input that may be missing; so one network is both the prior and the
  conditional model of classifier-free guidance (Ho and Salimans, arXiv 2207.12598). Chapter:
  `book/11-beyond-the-paper.ipynb`.
- `Supervised`: the same network trained only to separate, in one pass. It obeys the denoiser contract with the mixture
  known, since its answer is the posterior mean given the mixture. Chapter: `book/10-measuring.ipynb`.
- `WaveModel`: the paper's kind (arXiv 2302.02257). A waveform is cut into blocks of as many samples as the network
  needs at the least, side by side like frames (bins, L), so all code for MDCT spectrograms serves waveforms too.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from msdm_lite.audio.front_end import FRONT_ENDS
from msdm_lite.audio.sketch import spread
from msdm_lite.audio.transforms import Blocks
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import Denoiser, Denoiser1d, edm_loss, error, loss
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError
from msdm_lite.models.base import TASKS, StemModel, TrainingDefaults
from msdm_lite.models.config import Config, WaveConfig
from msdm_lite.models.unet1d import UNet1d
from msdm_lite.models.unet2d import UNet2d


@TASKS.register("denoise")
class Model(StemModel):
    """The joint model of MDCT spectrograms, (B, S, bins, L).

    Args:
        std: standard deviation of each stem and bin, (S, rows); 0.05 if None.

    Raises:
        InputError: no such front end, or its rows are not those of the configured bands.
    """

    takes_conditioning = True
    memory_format = torch.channels_last  # which is faster in two dimensions
    training_defaults = TrainingDefaults(shares=(0.4, 0.3, 0.2, 0.1))

    def __init__(self, config: Config, std: Tensor | None = None):
        S, sketched = len(config.stems), bool(config.sketch)
        with torch.device("cpu"):  # also where the weights are of shapes alone
            transform = FRONT_ENDS.find(config.front)(config.bins)
        if transform.rows != sum(bins for bins, _ in config.bands):
            raise InputError(f"the bands of {config.preset} have {sum(bins for bins, _ in config.bands)} bins in all, "
                             f"and a frame of its front end {transform.rows}")
        if std is None:
            std = torch.full((S, transform.rows), 0.05)
        net = UNet2d(list(config.bands), Denoiser.inputs_for(S, sketched), 3 * S, list(config.widths),
                     list(config.blocks), config.embedding_width, config.heads, config.frames_per_column)
        super().__init__(config, Denoiser(net, std, config.embedding_width, sketched), transform)
        if sketched:
            self.training_defaults = replace(self.training_defaults, sketched=1 / 3)

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,); the condition `sketch` is (B, S, bands, L).

        Raises:
            InputError: a condition that the model was not built for.
        """
        conditioning = Conditioning.none(x) if conditioning is None else conditioning
        conditioning.require("this model", *(["sketch"] if self.denoiser.sketched else []))
        sketch = conditioning.given("sketch")
        if sketch is None:
            return self.denoiser(x, sigma, conditioning)
        return self.denoiser(x, sigma, conditioning, sketch=spread(sketch, self.config.sketch))

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """The training loss for each item of clean x (B, S, bins, L) and white noise of that shape: (B,).

        The condition `sketched` (B,) says which items are conditioned on their sketch; none without it.
        """
        own_sketch, sketched = None, conditioning.given("sketched")
        if sketched is not None and self.denoiser.sketched and sketched.any():
            own_sketch = spread(self.sketch_of(x), self.config.sketch)
        return loss(self.denoiser, x, sigma, conditioning, n=noise, sketch=own_sketch,
                    sketch_given=sketched if own_sketch is not None else None)


@TASKS.register("guided")
class Guided(Model):
    """A model of MDCT spectrograms with the clean mixture as a further input that may be missing."""

    takes_conditioning = False
    takes_mixture = True
    training_defaults = TrainingDefaults(shares=(0.3, 0.7, 0.0, 0.0))  # without the mixture, and with it

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,); the condition `mixture` is (B, bins, L).

        Raises:
            InputError: anything is known of the state; the network was trained with noise on all stems only.
        """
        conditioning = Conditioning.none(x) if conditioning is None else conditioning
        conditioning.require("this model", "mixture")
        mixture = conditioning.given("mixture")
        if conditioning.any_known():
            raise InputError("this model was trained with noise on all stems only: condition it on the mixture by the "
                             "method guided")
        flags = Conditioning.none(x) if mixture is None else Conditioning.on_mixture(x)
        return self.denoiser(x, sigma, flags, mixture)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """The training loss for each item of clean x (B, S, bins, L) and white noise of that shape: (B,).

        `conditioning.mixture` says which items are conditioned on the mixture; all stems are noisy.
        """
        x0 = self.denoiser(add_noise(x, sigma, n=noise), sigma,
                           Conditioning(conditioning.mixture, conditioning.stems & False), x.sum(1))
        return error(x0, x, sigma, self.denoiser.std)


LEVEL = 10.0  # noise level for the network of `Supervised`: so high that noisy stems carry no information


@TASKS.register("separate")
class Supervised(Model):
    """A model of MDCT spectrograms whose only input is the mixture."""

    training_defaults = TrainingDefaults(shares=(0.0, 1.0, 0.0, 0.0))

    def trained_for(self, mixture: bool = False, stems: bool = False) -> bool:
        """Only for separation without given stems."""
        return mixture and not stems

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Stems (B, S, bins, L) that sum to the sum of x; neither the rest of x nor sigma is used.

        Raises:
            InputError: the mixture is unknown, some stems are known, or there is a further condition.
        """
        if conditioning is not None:
            conditioning.require("this model")
        if conditioning is None or not conditioning.mixture.all() or conditioning.stems.any():
            raise InputError("a supervised model only separates mixtures: use the method mixture-constrained, without "
                             "given stems")
        even = x.mean(1, keepdim=True).expand_as(x)
        return self.denoiser(even, torch.full_like(sigma, LEVEL), conditioning)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """The error of separating the sum of clean x (B, S, bins, L), for each item: (B,). No noise is used."""
        del conditioning, noise
        level = torch.full_like(sigma, LEVEL)
        return error(self.denoise(x, level, Conditioning.on_mixture(x)), x, level, self.denoiser.std)


@TASKS.register("wave")
class WaveModel(StemModel):
    """A model of waveforms, trained with noise on all stems only; it separates by `dirac` or `gaussian`."""

    takes_conditioning = False
    transform: Blocks

    def __init__(self, config: WaveConfig, denoiser: Denoiser1d | None = None):
        super().__init__(config, denoiser or Denoiser1d(UNet1d(config.net), config.sigma_data), Blocks(config.bins))
        # The learning rate is the paper's, which trains with Adam
        self.training_defaults = TrainingDefaults("adamw", {"muon": 1e-4, "adamw": 1e-4}, config.levels)

    @property
    def variance(self) -> Tensor:
        return torch.full((len(self.stems), 1, 1), self.config.sigma_data**2, device=self.device)

    def fit_statistics(self, coefficients: Iterable[Tensor]) -> None:
        """Nothing is measured: `sigma_data` is part of the configuration."""

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,).

        Raises:
            InputError: anything is known; the network was not trained with conditioning.
        """
        if conditioning is not None:
            conditioning.require("this model")
        wave = self.transform.inverse(x)
        return self.transform.forward(self.denoiser(wave, sigma, conditioning))

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """The paper's loss for each item of clean x (B, S, bins, L) and white noise of that shape: (B,)."""
        del conditioning  # never used by this model
        return edm_loss(self.denoiser, self.transform.inverse(x), sigma, n=self.transform.inverse(noise))
