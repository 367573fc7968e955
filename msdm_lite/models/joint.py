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

import torch
from torch import Tensor

from msdm_lite.audio.sketch import sketch, spread
from msdm_lite.audio.transforms import MDCT, Blocks
from msdm_lite.diffusion.denoiser import Denoiser, Denoiser1d, edm_loss, error, loss
from msdm_lite.diffusion.noise import Conditioning, add_noise
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.models.config import Config, WaveConfig
from msdm_lite.models.unet1d import UNet1d
from msdm_lite.models.unet2d import UNet2d


class Model(StemModel):
    """The joint model of MDCT spectrograms, (B, S, bins, L).

    Args:
        std: standard deviation of each stem and bin, (S, bins); 0.05 if None.
    """

    takes_conditioning = True
    shares = (0.4, 0.3, 0.2, 0.1)  # of training crops, see `StemModel`

    def __init__(self, config: Config, std: Tensor | None = None):
        S, sketched = len(config.stems), bool(config.sketch)
        if std is None:
            std = torch.full((S, config.bins), 0.05)
        net = UNet2d(list(config.bands), Denoiser.inputs_for(S, sketched), 3 * S, list(config.widths),
                     list(config.blocks), config.embedding_width, config.heads, config.frames_per_column)
        super().__init__(config, Denoiser(net, std, config.embedding_width, sketched), MDCT(config.bins))
        self.sketched = 1 / 3 if sketched else 0.0

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
                sketch: Tensor | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,); `sketch` is (B, S, bands, L).

        Raises:
            InputError: a sketch is given, and the model cannot be conditioned on one.
        """
        if sketch is None:
            return self.denoiser(x, sigma, conditioning)
        if not self.denoiser.sketched:
            raise InputError("this model cannot be conditioned on a sketch")
        return self.denoiser(x, sigma, conditioning, sketch=spread(sketch, self.config.sketch))

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor,
             sketched: Tensor | None = None) -> Tensor:
        """The training loss for each item of clean x (B, S, bins, L) and white noise of that shape: (B,).

        `sketched` (B,) says which items are conditioned on their sketch; none if not given.
        """
        own_sketch = None
        if sketched is not None and self.denoiser.sketched and sketched.any():
            own_sketch = spread(sketch(x, self.config.sketch), self.config.sketch)
        return loss(self.denoiser, x, sigma, conditioning, n=noise, sketch=own_sketch,
                    sketch_given=sketched if own_sketch is not None else None)


class Guided(Model):
    """A model of MDCT spectrograms with the clean mixture as a further input that may be missing."""

    takes_conditioning = False
    takes_mixture = True
    shares = (0.3, 0.7, 0.0, 0.0)  # of training crops without the mixture, and with it

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
                mixture: Tensor | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,); `mixture` is clean, (B, bins, L).

        Raises:
            InputError: anything is known of the state; the network was trained with noise on all stems only.
        """
        if conditioning is not None and conditioning.any_known():
            raise InputError("this model was trained with noise on all stems only: condition it on the mixture by the "
                             "method guided")
        flags = Conditioning.none(x) if mixture is None else Conditioning.on_mixture(x)
        return self.denoiser(x, sigma, flags, mixture)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor,
             sketched: Tensor | None = None) -> Tensor:
        """The training loss for each item of clean x (B, S, bins, L) and white noise of that shape: (B,).

        `conditioning.mixture` says which items are conditioned on the mixture; all stems are noisy.
        """
        x0 = self.denoiser(add_noise(x, sigma, n=noise), sigma,
                           Conditioning(conditioning.mixture, conditioning.stems & False), x.sum(1))
        return error(x0, x, sigma, self.denoiser.std)


LEVEL = 10.0  # noise level for the network of `Supervised`: so high that noisy stems carry no information


class Supervised(Model):
    """A model of MDCT spectrograms whose only input is the mixture."""

    shares = (0.0, 1.0, 0.0, 0.0)

    def trained_for(self, mixture: bool = False, stems: bool = False) -> bool:
        """Only for separation without given stems."""
        return mixture and not stems

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None,
                sketch: Tensor | None = None) -> Tensor:
        """Stems (B, S, bins, L) that sum to the sum of x; neither the rest of x nor sigma is used.

        Raises:
            InputError: the mixture is unknown, some stems are known, or a sketch is given.
        """
        if sketch is not None:
            raise InputError("this model cannot be conditioned on a sketch")
        if conditioning is None or not conditioning.mixture.all() or conditioning.stems.any():
            raise InputError("a supervised model only separates mixtures: use the method mixture-constrained, without "
                             "given stems")
        even = x.mean(1, keepdim=True).expand_as(x)
        return self.denoiser(even, torch.full_like(sigma, LEVEL), conditioning)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor,
             sketched: Tensor | None = None) -> Tensor:
        """The error of separating the sum of clean x (B, S, bins, L), for each item: (B,). No noise is used."""
        del conditioning, noise, sketched
        level = torch.full_like(sigma, LEVEL)
        return error(self.denoise(x, level, Conditioning.on_mixture(x)), x, level, self.denoiser.std)


class WaveModel(StemModel):
    """A model of waveforms, trained with noise on all stems only; it separates by `dirac` or `gaussian`."""

    takes_conditioning = False

    def __init__(self, config: WaveConfig, denoiser: Denoiser1d | None = None):
        super().__init__(config, denoiser or Denoiser1d(UNet1d(config.net), config.sigma_data), Blocks(config.bins))
        self.levels = config.levels

    @property
    def variance(self) -> Tensor:
        return torch.full((len(self.stems), 1, 1), self.config.sigma_data**2, device=self.device)

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,).

        Raises:
            InputError: anything is known; the network was not trained with conditioning.
        """
        wave = self.transform.inverse(x)
        return self.transform.forward(self.denoiser(wave, sigma, conditioning))

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor,
             sketched: Tensor | None = None) -> Tensor:
        """The paper's loss for each item of clean x (B, S, bins, L) and white noise of that shape: (B,)."""
        del conditioning, sketched  # never used by this model
        return edm_loss(self.denoiser, self.transform.inverse(x), sigma, n=self.transform.inverse(noise))
