"""A model that makes sketches: whole, or of the players that are missing from a band.

Structure is decided here, where it is small: an image of four stems by some hundred bands. The sound comes after, from
a model that was told the sketch: a cascade (Ho et al., arXiv 2106.15282). The beat comes before, as a click that the
model hears. Chapter: `book/06-total-generation.ipynb`.
"""

import torch
from torch import Tensor, nn

from msdm_lite import click as clicks
from msdm_lite.diffusion import NoiseEmbedding, add_noise, error
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.known import Known
from msdm_lite.sketch import Sketching, bands
from msdm_lite.unet import UNet2d


class SketchDenoiser(nn.Module):
    """A U-Net made into a denoiser of sketches by EDM's preconditioning (arXiv 2206.00364), with a variance per band.

    Args:
        net: (B, S, F, L), (B, told) -> (B, S, F, L); its input has 4 more channels if it hears a click.
        deviation: root mean square of each stem and band, (S, F).
    """

    deviation: Tensor

    def __init__(self, net: nn.Module, deviation: Tensor, told: int, click: bool = False):
        super().__init__()
        self.net, self.click = net, click
        self.embed = NoiseEmbedding(1 + len(deviation), told)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor, sigma: Tensor, known: Known | None = None,
                click: Tensor | None = None) -> Tensor:
        """Denoised sketches (B, S, F, L) at level sigma (B,). Known stems come back as they went in.

        Told a click (B, 4, L), or that nobody counts.
        """
        known = Known.nothing(x) if known is None else known
        s2 = sigma.square()[:, None, None, None]
        v = self.deviation.square()[:, :, None]
        free = known.unknown(x)
        seen = x / (v + s2 * free).sqrt()
        if self.click:
            count = clicks.silent(x) if click is None else click
            seen = torch.cat([seen, count[:, :, None].expand(-1, -1, x.shape[2], -1)], 1)
        out = self.net(seen, self.embed(sigma, known.flags())).float()
        x0 = v / (v + s2) * x + (v * s2 / (v + s2)).sqrt() * out
        return torch.where(free > 0, x0, x)


class Sketcher(StemModel):
    """A model of sketches (B, S, bands, L), one value a frame of the MDCT."""

    takes_known = True
    makes_sound = False
    shares = (0.5, 0.0, 0.5, 0.0)
    levels = (0.0, 1.5)

    def __init__(self, config):
        S, rows = len(config.stems), bands(config.sketch)
        net = UNet2d(list(config.bands), S + clicks.ROWS * config.click, S, list(config.widths), list(config.blocks),
                     config.told, config.heads, config.fold_frames)
        super().__init__(config, SketchDenoiser(net, torch.ones(S, rows), config.told, config.click),
                         Sketching(config.bins, config.sketch))
        self.clicked = 2 / 3 if config.click else 0.0

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None, click: Tensor | None = None) -> Tensor:
        """The denoiser contract, sketches (B, S, bands, L) at level sigma (B,), perhaps told a click (B, 4, L).

        Raises:
            InputError: a click is given that the model cannot hear.
        """
        if click is not None and not self.denoiser.click:
            raise InputError("this model was not trained to hear a click")
        return self.denoiser(x, sigma, known, click)

    def loss(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor, sketched: Tensor | None = None,
             click: Tensor | None = None) -> Tensor:
        """The training loss of clean (B, S, bands, L) and white noise of that shape, one value an item: (B,)."""
        guess = self.denoise(add_noise(x, sigma, known, n=noise), sigma, known, click)
        return error(guess, x, sigma, self.denoiser.deviation, tilt=0) / (~known.stems).float().mean(1)
