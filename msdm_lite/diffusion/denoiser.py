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
from msdm_lite.diffusion.noise import Conditioning, add_noise
from msdm_lite.errors import InputError


class NoiseEmbedding(nn.Module):
    """The conditioning vector of the network: the noise level (B,) and flags of what is known (B, 1 + S), as one vector
    (B, width).
    """

    frequencies: Tensor

    def __init__(self, flags: int, width: int):
        super().__init__()
        self.register_buffer("frequencies", torch.linspace(0.25, 4.0, 16), persistent=False)
        self.layers = nn.Sequential(nn.Linear(33 + flags, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor, flags: Tensor) -> Tensor:
        level = sigma.log()[:, None] / 4
        waves = math.pi * level * self.frequencies
        return self.layers(torch.cat([level, waves.sin(), waves.cos(), flags], 1))


class Denoiser(nn.Module):
    """A U-Net made into the conditional mean of the clean stems, for every shape of noise.

    The net gives three numbers for each coefficient. `g` corrects the Wiener gain m = v / (v + sigma^2), v the
    variance of that stem and bin; `a` is added, in units of the remaining uncertainty; `w` corrects the shares by
    which the stems divide what the known mixture says is missing. With a zero net the result is the exact posterior
    mean of independent Gaussians with variances v, for every shape of noise.

    Args:
        net: (B, inputs, F, L), (B, embedding_width) -> (B, 3 S, F, L), `inputs` as `inputs_for(S)`.
        deviation: standard deviation of each stem and bin, (S, F).
        sketched: it can also be conditioned on a sketch; the net then has S more inputs.
    """

    std: Tensor

    def __init__(self, net: nn.Module, std: Tensor, embedding_width: int, sketched: bool = False):
        super().__init__()
        self.net, self.sketched = net, sketched
        self.embed = NoiseEmbedding(1 + len(std) + sketched, embedding_width)
        self.register_buffer("std", std)

    @staticmethod
    def inputs_for(stems: int, sketched: bool = False) -> int:
        """Channels the net sees for each coefficient: every stem and the mixture, and the log energy of each.

        And the sketch of every stem, if it can be conditioned on one.
        """
        return 2 * (stems + 1) + stems * sketched

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None, mixture: Tensor | None = None,
                sketch: Tensor | None = None, sketch_given: Tensor | None = None) -> Tensor:
        """Denoised stems (B, S, F, L) from noisy ones at level sigma (B,). Known stems come back as they went in.

        Where the mixture is known the noise sums to zero, and the sum of x is the mixture; otherwise `mixture` (B, F,
        L) gives it. A sketch is as large as x; `sketch_given` (B,) says which items have theirs, all if None.
        """
        conditioning = Conditioning.none(x) if conditioning is None else conditioning
        S = x.shape[1]
        s2 = sigma.square()[:, None, None, None]  # (B, 1, 1, 1)
        v = self.std.square()[:, :, None]  # (S, F, 1)
        free = conditioning.unknown(x)  # (B, S, 1, 1)
        fixed = conditioning.mixture[:, None, None, None]  # (B, 1, 1, 1)

        said = x.sum(1, keepdim=True)  # (B, 1, F, L)
        mixture = said if mixture is None else torch.where(fixed, mixture[:, None], said)
        mixture_noise = s2 * free.sum(1, keepdim=True) * ~fixed
        seen = torch.cat([x / (v + s2 * free).sqrt(), mixture / (v.sum(0) + mixture_noise).sqrt()], 1)
        loud = (pseudo_energy(seen) + 1e-4).log() / 4
        inputs, flags = [seen, loud], conditioning.flags()
        if self.sketched:
            if sketch_given is None:
                sketch_given = torch.full_like(conditioning.mixture, sketch is not None)
            inputs.append(torch.zeros_like(x) if sketch is None else sketch * sketch_given[:, None, None, None])
            flags = torch.cat([flags, sketch_given[:, None].float()], 1)
        out = self.net(torch.cat(inputs, 1), self.embed(sigma, flags)).float()
        a, g, w = out.split(S, 1)

        left = v * s2 / (v + s2)  # what stays uncertain of each coefficient
        x0 = torch.sigmoid((v / s2).log() + g) * x + left.sqrt() * a
        x0 = torch.where(free > 0, x0, x)
        shares = (left.log() + w).masked_fill(free == 0, -torch.inf).softmax(1).nan_to_num()
        return x0 + fixed * shares * (mixture - x0.sum(1, keepdim=True))


def error(guess: Tensor, x: Tensor, sigma: Tensor, std: Tensor, tilt: float = 0.5) -> Tensor:
    """Squared error of a guess at clean x (B, S, F, L), in units of what a Wiener filter leaves, one an item: (B,).

    Each coefficient's is divided by v sigma^2 / (v + sigma^2), its uncertainty under that filter (EDM's weight, per
    bin), and weighted by deviation ** (2 * tilt): 0 treats all bins alike, 1 counts energy.

    Args:
        deviation: of each stem and bin, (S, F); v is its square.
    """
    v = std.square()[:, :, None]
    s2 = sigma.square()[:, None, None, None]
    weight = (v / v.mean()) ** tilt
    return (weight * (guess - x).square() * (v + s2) / (v * s2)).mean((1, 2, 3)) / weight.mean()


def loss(denoiser: Denoiser, x: Tensor, sigma: Tensor, conditioning: Conditioning,
         generator: torch.Generator | None = None,
         tilt: float = 0.5, n: Tensor | None = None, **conditions: Tensor | None) -> Tensor:
    """Weighted denoising score matching, one value an item: (B,). About one for a net that knows variances alone.

    The `error` of the denoiser, with its own deviations, for each stem that is unknown: a known one has none. The
    white noise n is drawn from the generator if not given. Further `conditions` go to the denoiser as they are.
    """
    guess = denoiser(add_noise(x, sigma, conditioning, generator, n), sigma, conditioning, **conditions)
    open_share = (~conditioning.stems).float().mean(1)  # of the stems
    return error(guess, x, sigma, denoiser.std, tilt) / open_share


class Denoiser1d(nn.Module):
    """The U-Net made into the conditional mean of the clean stems: `denoise(x, sigma, known) -> x0`.

    D(x, s) = c_skip x + c_out F(c_in x, ln(s) / 4), clamped to [-1, 1]. A net that says nothing leaves the Wiener
    filter of white sound of deviation sigma_data. Source: arXiv 2302.02257 and 2206.00364.

    Args:
        sigma_data: standard deviation of the stems, full scale being 1.
        clamp: waveforms lie in [-1, 1], so the guess does too, also in the loss.
    """

    def __init__(self, net: nn.Module, sigma_data: float = 0.2, clamp: bool = True):
        super().__init__()
        self.net, self.sigma_data, self.clamp = net, sigma_data, clamp

    def forward(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Denoised stems (B, S, T) from noisy ones at level sigma (B,).

        Raises:
            InputError: something is known, or the network cannot take that shape.
        """
        if conditioning is not None and conditioning.any_known():
            raise InputError("this model was trained on noise on all stems only: it cannot be conditioned on what is "
                             "known (to separate with it, use the method dirac or gaussian)")
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
