"""A network of waveforms made into a denoiser, as in the paper: EDM's preconditioning with one deviation for all.

Sources: Karras et al. (arXiv 2206.00364); its use for stems, arXiv 2302.02257. `msdm_lite.diffusion` has the finer one,
with a deviation for every stem and frequency bin. Chapter: `book/03-noise-and-sampling.ipynb`.
"""

import torch
from torch import Tensor, nn

from msdm_lite.diffusion import add_noise
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.unet1d import UNet1d


class Denoiser1d(nn.Module):
    """The U-Net made into the conditional mean of the clean stems: `denoise(x, sigma, known) -> x0`.

    D(x, s) = c_skip x + c_out F(c_in x, ln(s) / 4), clamped to [-1, 1]. A net that says nothing leaves the Wiener
    filter of white sound of deviation sigma_data. Source: arXiv 2302.02257 and 2206.00364.

    Args:
        sigma_data: standard deviation of the stems, full scale being 1.
        clamp: waveforms lie in [-1, 1], so the guess does too, also in the loss.
    """

    def __init__(self, net: UNet1d, sigma_data: float = 0.2, clamp: bool = True):
        super().__init__()
        self.net, self.sigma_data, self.clamp = net, sigma_data, clamp

    def forward(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        """Denoised stems (B, S, T) from noisy ones at level sigma (B,).

        Raises:
            InputError: something is known, or the network cannot take that shape.
        """
        if known is not None and known.anything():
            raise InputError("this model was trained on noise on all stems only: it cannot be told what is known "
                             "(to separate with it, use the method dirac or gaussian)")
        total = (sigma.square() + self.sigma_data**2)[:, None, None]           # (B, 1, 1)
        s = sigma[:, None, None]                                               # (B, 1, 1)
        out = self.net(x * total.rsqrt(), sigma.log() / 4).to(x.dtype)         # (B, S, T)
        x0 = self.sigma_data**2 / total * x + s * self.sigma_data * total.rsqrt() * out
        return x0.clamp(-1, 1) if self.clamp else x0

    denoise = forward


def edm_loss(denoiser: Denoiser1d, x: Tensor, sigma: Tensor, generator: torch.Generator | None = None,
             n: Tensor | None = None) -> Tensor:
    """The paper's loss, one value an item: (B,). x is clean stems (B, S, T), sigma (B,) the level of the noise n.

    The mean squared error, times (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: the net's own error, about one for
    a net that says nothing. Source: arXiv 2302.02257, 2206.00364.
    """
    error = (denoiser(add_noise(x, sigma, None, generator, n), sigma) - x).square().mean((1, 2))
    return error * (sigma.square() + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data).square()
