"""Preconditioning and the loss: how a network becomes a denoiser.

A denoiser estimates the clean stems from noisy ones. `denoise(x, sigma, conditioning) -> x0` is the one contract of the
project: x is (B, S, ...), sigma (B,), and `conditioning` says what carries no noise. Its score is
`(x0 - x) / sigma**2` (Tweedie). `Denoiser1d` has the preconditioning of Karras et al. (EDM, arXiv 2206.00364) with one
standard deviation for all samples, as the paper (arXiv 2302.02257). `Denoiser` gives every stem and frequency bin its
own standard deviation, so that an untrained network is a Wiener filter. Chapter: `book/03-noise-and-sampling.ipynb`.
"""

import math

import torch
from torch import Tensor, nn

from msdm_lite.audio.transforms import pseudo_energy
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.errors import InputError


class NoiseEmbedding(nn.Module):
    """The noise level (B,) and the flags of what is known (B, flags) as one vector (B, width)."""

    frequencies: Tensor

    def __init__(self, flags: int, width: int):
        super().__init__()
        self.register_buffer("frequencies", torch.linspace(0.25, 4.0, 16), persistent=False)
        self.layers = nn.Sequential(nn.Linear(33 + flags, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor, flags: Tensor) -> Tensor:
        level = sigma.log()[:, None] / 4
        waves = math.pi * level * self.frequencies
        out: Tensor = self.layers(torch.cat([level, waves.sin(), waves.cos(), flags], 1))
        return out


class Denoiser(nn.Module):
    """A U-Net with the preconditioning that makes it the conditional mean of the clean stems, for every conditioning.

    The net has three outputs for each coefficient. `g` corrects the Wiener gain v / (v + sigma^2), v the variance of
    that stem and bin; `a` is added, in units of the posterior standard deviation; `w` corrects the shares in which the
    difference between the known mixture and the sum is added to the stems. If all outputs are zero, the result is the
    exact posterior mean of independent Gaussians with variances v, for every conditioning.

    Args:
        net: (B, inputs, F, L), (B, embedding_width) -> (B, 3 S, F, L), `inputs` as `inputs_for(S)`.
        std: standard deviation of each stem and bin, (S, F).
        sketched: the model can be conditioned on a sketch (a coarse spectrogram); the net then has S more inputs.
    """

    std: Tensor
    edge_layers = ("embed",)  # see `msdm_lite.models.base.StemModel.param_groups`

    def __init__(self, net: nn.Module, std: Tensor, embedding_width: int, sketched: bool = False):
        super().__init__()
        self.net, self.sketched = net, sketched
        self.embed = NoiseEmbedding(1 + len(std) + sketched, embedding_width)
        self.register_buffer("std", std)

    @staticmethod
    def inputs_for(stems: int, sketched: bool = False) -> int:
        """Input channels of the net: stems and mixture, the log energy of each, and the sketches if `sketched`."""
        return 2 * (stems + 1) + stems * sketched

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None, mixture: Tensor | None = None,
                sketch: Tensor | None = None, sketch_given: Tensor | None = None) -> Tensor:
        """Denoised stems (B, S, F, L) from noisy ones at noise level sigma (B,). Known stems are returned unchanged.

        Args:
            conditioning: what is known; nothing if None.
            mixture: (B, F, L), for items whose mixture is known; if None it is the sum of x, as with zero-sum noise.
            sketch: sketches of the stems, with the shape of x.
            sketch_given: (B,), which items have a sketch; if None all, or none without `sketch`.
        """
        conditioning = Conditioning.none(x) if conditioning is None else conditioning
        S = x.shape[1]
        s2 = sigma.square()[:, None, None, None]  # (B, 1, 1, 1)
        v = self.std.square()[:, :, None]  # (S, F, 1)
        free = conditioning.unknown(x)  # (B, S, 1, 1)
        fixed = conditioning.mixture[:, None, None, None]  # (B, 1, 1, 1)

        total = x.sum(1, keepdim=True)  # (B, 1, F, L)
        mixture = total if mixture is None else torch.where(fixed, mixture[:, None], total)
        mixture_noise = s2 * free.sum(1, keepdim=True) * ~fixed
        scaled = torch.cat([x / (v + s2 * free).sqrt(), mixture / (v.sum(0) + mixture_noise).sqrt()], 1)
        log_energy = (pseudo_energy(scaled) + 1e-4).log() / 4
        inputs, flags = [scaled, log_energy], conditioning.flags()
        if self.sketched:
            if sketch_given is None:
                sketch_given = torch.full_like(conditioning.mixture, sketch is not None)
            inputs.append(torch.zeros_like(x) if sketch is None else sketch * sketch_given[:, None, None, None])
            flags = torch.cat([flags, sketch_given[:, None].float()], 1)
        out: Tensor = self.net(torch.cat(inputs, 1), self.embed(sigma, flags)).float()
        a, g, w = out.split(S, 1)

        left = v * s2 / (v + s2)  # posterior variance of each coefficient
        x0 = torch.sigmoid((v / s2).log() + g) * x + left.sqrt() * a
        x0 = torch.where(free > 0, x0, x)
        shares = (left.log() + w).masked_fill(free == 0, -torch.inf).softmax(1).nan_to_num()
        found: Tensor = x0 + fixed * shares * (mixture - x0.sum(1, keepdim=True))
        return found


def error(guess: Tensor, x: Tensor, sigma: Tensor, std: Tensor, tilt: float = 0.5) -> Tensor:
    """Weighted squared error of an estimate of clean x (B, S, F, L) for each item: (B,). A Wiener filter has about 1.

    The error of each coefficient is divided by v sigma^2 / (v + sigma^2), its posterior variance under that filter
    (EDM's weight, per bin), and multiplied by std ** (2 * tilt).

    Args:
        std: standard deviation of each stem and bin, (S, F); v is its square.
        tilt: 0 weights all bins equally, 1 by their energy.
    """
    v = std.square()[:, :, None]
    s2 = sigma.square()[:, None, None, None]
    weight = (v / v.mean()) ** tilt
    return (weight * (guess - x).square() * (v + s2) / (v * s2)).mean((1, 2, 3)) / weight.mean()


def loss(denoiser: Denoiser, x: Tensor, sigma: Tensor, conditioning: Conditioning,
         generator: torch.Generator | None = None, tilt: float = 0.5, n: Tensor | None = None,
         **conditions: Tensor | None) -> Tensor:
    """Weighted denoising score matching for each item of clean x (B, S, F, L): (B,). About 1 for an untrained net.

    It is the `error` of the denoiser, with its own std, as a mean over the unknown stems: known stems have no error.
    The white noise n is drawn from the generator if not given. `conditions` are passed to the denoiser.
    """
    guess = denoiser(add_noise(x, sigma, conditioning, generator, n), sigma, conditioning, **conditions)
    open_share = (~conditioning.stems).float().mean(1)  # of the stems
    return error(guess, x, sigma, denoiser.std, tilt) / open_share


class Denoiser1d(nn.Module):
    """A U-Net on waveforms with EDM's preconditioning: `denoise(x, sigma, conditioning) -> x0`.

    D(x, s) = c_skip x + c_out F(c_in x, ln(s) / 4), clamped to [-1, 1]. If the net's output is zero, D is the Wiener
    filter of white noise of standard deviation sigma_data. Source: arXiv 2302.02257 and 2206.00364 (table 1).

    Args:
        sigma_data: standard deviation of the stems, full scale being 1.
        clamp: clamp the estimate to [-1, 1], the range of waveforms, also in the loss.
    """

    def __init__(self, net: nn.Module, sigma_data: float = 0.2, clamp: bool = True):
        super().__init__()
        self.net, self.sigma_data, self.clamp = net, sigma_data, clamp

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Denoised stems (B, S, T) from noisy ones at noise level sigma (B,).

        Raises:
            InputError: anything is known, or the shape of x does not fit the network.
        """
        if conditioning is not None and conditioning.any_known():
            raise InputError("this model was trained on noise on all stems only: it cannot be conditioned on what is "
                             "known (to separate with it, use the method dirac or gaussian)")
        total = (sigma.square() + self.sigma_data**2)[:, None, None]           # (B, 1, 1)
        s = sigma[:, None, None]                                               # (B, 1, 1)
        out = self.net(x * total.rsqrt(), sigma.log() / 4).to(x.dtype)         # (B, S, T)
        x0: Tensor = self.sigma_data**2 / total * x + s * self.sigma_data * total.rsqrt() * out
        return x0.clamp(-1, 1) if self.clamp else x0

    denoise = forward


def edm_loss(denoiser: Denoiser1d, x: Tensor, sigma: Tensor, generator: torch.Generator | None = None,
             n: Tensor | None = None) -> Tensor:
    """The paper's loss for each item of clean stems x (B, S, T): (B,). sigma (B,) is the level of the white noise n.

    The mean squared error times (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, which is that of the net's output;
    about 1 if the output is zero. Source: arXiv 2302.02257, 2206.00364 (table 1).
    """
    error = (denoiser(add_noise(x, sigma, None, generator, n), sigma) - x).square().mean((1, 2))
    loss: Tensor = error * (sigma.square() + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data).square()
    return loss
