"""A model that generates sketches (coarse spectrograms) of all stems, or of those that are not given.

It is the first stage of a cascade (Ho et al., arXiv 2106.15282): a sketch is small, four stems by some hundred bands,
and determines the structure; a model conditioned on it then generates the sound. The sketcher itself can be conditioned
on the beat phase. Chapter: `book/06-total-generation.ipynb`.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from msdm_lite.audio import beats
from msdm_lite.audio.sketch import Sketching, bands
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import NoiseEmbedding, error
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError
from msdm_lite.models.base import TASKS, StemModel, TrainingDefaults
from msdm_lite.models.config import Config
from msdm_lite.models.unet2d import UNet2d


class SketchDenoiser(nn.Module):
    """A U-Net with EDM's preconditioning (arXiv 2206.00364) and a variance per band: a denoiser of sketches.

    Args:
        net: (B, S, F, L), (B, embedding_width) -> (B, S, F, L); its input has 4 more channels with `beat_phase`.
        std: root mean square of each stem and band, (S, F).
        beat_phase: whether it can be conditioned on the beat phase.
    """

    std: Tensor
    edge_layers = ("embed",)  # see `StemModel.param_groups`

    def __init__(self, net: nn.Module, std: Tensor, embedding_width: int, beat_phase: bool = False):
        super().__init__()
        self.net, self.beat_phase = net, beat_phase
        self.embed = NoiseEmbedding(1 + len(std), embedding_width)
        self.register_buffer("std", std)

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
                beat_phase: Tensor | None = None) -> Tensor:
        """Denoised sketches (B, S, F, L) at noise level sigma (B,). Known stems are returned unchanged.

        `beat_phase` is (B, 4, L); if None the network gets the value that stands for an unknown beat.
        """
        conditioning = Conditioning.none(x) if conditioning is None else conditioning
        s2 = sigma.square()[:, None, None, None]
        v = self.std.square()[:, :, None]
        free = conditioning.unknown(x)
        scaled = x / (v + s2 * free).sqrt()
        if self.beat_phase:
            phase = beats.silent(x) if beat_phase is None else beat_phase
            scaled = torch.cat([scaled, phase[:, :, None].expand(-1, -1, x.shape[2], -1)], 1)
        out = self.net(scaled, self.embed(sigma, conditioning.flags())).float()
        x0 = v / (v + s2) * x + (v * s2 / (v + s2)).sqrt() * out
        return torch.where(free > 0, x0, x)


@TASKS.register("sketch")
class Sketcher(StemModel):
    """A model of sketches (B, S, bands, L), with the frames of the MDCT."""

    takes_conditioning = True
    makes_sound = False
    memory_format = torch.channels_last
    training_defaults = TrainingDefaults(levels=(0.0, 1.5), shares=(0.5, 0.0, 0.5, 0.0))

    def __init__(self, config: Config):
        S, rows = len(config.stems), bands(config.sketch)
        net = UNet2d(list(config.bands), S + beats.ROWS * config.beat_phase, S, list(config.widths),
                     list(config.blocks), config.embedding_width, config.heads, config.frames_per_column)
        super().__init__(config, SketchDenoiser(net, torch.ones(S, rows), config.embedding_width, config.beat_phase),
                         Sketching(config.bins, config.sketch, config.stem_rms))
        if config.beat_phase:
            self.training_defaults = replace(self.training_defaults, beat_share=2 / 3)

    def configure(self, **settings: object) -> None:
        super().configure(**settings)
        # A sketch does not depend on the level
        self.transform = Sketching(self.config.bins, self.config.sketch, self.config.stem_rms)

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract, sketches (B, S, bands, L), sigma (B,); the condition `beat_phase` is (B, 4, L).

        Raises:
            InputError: a beat phase is given, and the model was trained without; or another condition.
        """
        beat_phase = None if conditioning is None else conditioning.given("beat_phase")
        if beat_phase is not None and not self.denoiser.beat_phase:
            raise InputError("this model was not trained with beat conditioning")
        if conditioning is not None:
            conditioning.require("this model", "beat_phase")
        return self.denoiser(x, sigma, conditioning, beat_phase)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """The training loss for each item of clean x (B, S, bands, L) and white noise of that shape: (B,)."""
        x0 = self.denoise(add_noise(x, sigma, conditioning, n=noise), sigma, conditioning)
        return error(x0, x, sigma, self.denoiser.std, tilt=0) / (~conditioning.stems).float().mean(1)
