"""A model that makes sketches: whole, or of the players that are missing from a band.

Structure is decided here, where it is small: an image of four stems by some hundred bands. The sound comes after, from
a model conditioned on the sketch: a cascade (Ho et al., arXiv 2106.15282). The beat comes before, as a click that the
model hears. Chapter: `book/06-total-generation.ipynb`.
"""

import torch
from torch import Tensor, nn

from msdm_lite.audio import beats
from msdm_lite.audio.sketch import Sketching, bands
from msdm_lite.diffusion.denoiser import NoiseEmbedding, error
from msdm_lite.diffusion.noise import Conditioning, add_noise
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.models.unet2d import UNet2d


class SketchDenoiser(nn.Module):
    """A U-Net made into a denoiser of sketches by EDM's preconditioning (arXiv 2206.00364), with a variance per band.

    Args:
        net: (B, S, F, L), (B, embedding_width) -> (B, S, F, L); its input has 4 more channels if it hears a click.
        deviation: root mean square of each stem and band, (S, F).
    """

    std: Tensor

    def __init__(self, net: nn.Module, std: Tensor, embedding_width: int, beat_phase: bool = False):
        super().__init__()
        self.net, self.beat_phase = net, beat_phase
        self.embed = NoiseEmbedding(1 + len(std), embedding_width)
        self.register_buffer("std", std)

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
                beat_phase: Tensor | None = None) -> Tensor:
        """Denoised sketches (B, S, F, L) at level sigma (B,). Known stems come back as they went in.

        Conditioned on the beat phase (B, 4, L), or that nobody counts.
        """
        conditioning = Conditioning.none(x) if conditioning is None else conditioning
        s2 = sigma.square()[:, None, None, None]
        v = self.std.square()[:, :, None]
        free = conditioning.unknown(x)
        seen = x / (v + s2 * free).sqrt()
        if self.beat_phase:
            count = beats.silent(x) if beat_phase is None else beat_phase
            seen = torch.cat([seen, count[:, :, None].expand(-1, -1, x.shape[2], -1)], 1)
        out = self.net(seen, self.embed(sigma, conditioning.flags())).float()
        x0 = v / (v + s2) * x + (v * s2 / (v + s2)).sqrt() * out
        return torch.where(free > 0, x0, x)


class Sketcher(StemModel):
    """A model of sketches (B, S, bands, L), one value a frame of the MDCT."""

    takes_conditioning = True
    makes_sound = False
    shares = (0.5, 0.0, 0.5, 0.0)
    levels = (0.0, 1.5)

    def __init__(self, config):
        S, rows = len(config.stems), bands(config.sketch)
        net = UNet2d(list(config.bands), S + beats.ROWS * config.beat_phase, S, list(config.widths),
                     list(config.blocks),
                     config.embedding_width, config.heads, config.frames_per_column)
        super().__init__(config, SketchDenoiser(net, torch.ones(S, rows), config.embedding_width, config.beat_phase),
                         Sketching(config.bins, config.sketch))
        self.beat_share = 2 / 3 if config.beat_phase else 0.0

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
                beat_phase: Tensor | None = None) -> Tensor:
        """The denoiser contract, sketches (B, S, bands, L) at level sigma (B,), optionally conditioned on the beat
        phase (B, 4, L).

        Raises:
            InputError: a click is given that the model cannot hear.
        """
        if beat_phase is not None and not self.denoiser.beat_phase:
            raise InputError("this model was not trained to hear a click")
        return self.denoiser(x, sigma, conditioning, beat_phase)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor, sketched: Tensor | None = None,
             beat_phase: Tensor | None = None) -> Tensor:
        """The training loss of clean (B, S, bands, L) and white noise of that shape, one value an item: (B,)."""
        guess = self.denoise(add_noise(x, sigma, conditioning, n=noise), sigma, conditioning, beat_phase)
        return error(guess, x, sigma, self.denoiser.std, tilt=0) / (~conditioning.stems).float().mean(1)
