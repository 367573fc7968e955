"""Noise levels, preconditioning and the loss: how a network becomes a denoiser.

A denoiser guesses the clean stems from noisy ones. `denoise(x, sigma, known) -> x0` is the one contract of the project:
x is (B, S, ...), sigma (B,), and `known` says what carries no noise. Its score is `(x0 - x) / sigma**2` (Tweedie).
Preconditioning after Karras et al. (EDM, arXiv 2206.00364), made finer: every stem and frequency bin has its own
standard deviation, so that an untrained network already is a Wiener filter. Chapter:
`book/03-noise-and-sampling.ipynb`.
"""

import math

import torch
from torch import Tensor, nn

from msdm_lite.known import Known, project
from msdm_lite.transform import pseudo_energy


class NoiseEmbedding(nn.Module):
    """What the net is told: the noise level (B,) and flags of what is known (B, 1 + S), as one vector (B, width)."""

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
        net: (B, inputs, F, L), (B, told) -> (B, 3 S, F, L), `inputs` as `inputs_for(S)`.
        deviation: standard deviation of each stem and bin, (S, F).
        sketched: it can also be told a sketch; the net then has S more inputs.
    """

    deviation: Tensor

    def __init__(self, net: nn.Module, deviation: Tensor, told: int, sketched: bool = False):
        super().__init__()
        self.net, self.sketched = net, sketched
        self.embed = NoiseEmbedding(1 + len(deviation) + sketched, told)
        self.register_buffer("deviation", deviation)

    @staticmethod
    def inputs_for(stems: int, sketched: bool = False) -> int:
        """Channels the net sees for each coefficient: every stem and the mixture, and the log energy of each.

        And the sketch of every stem, if it can be told one.
        """
        return 2 * (stems + 1) + stems * sketched

    def forward(self, x: Tensor, sigma: Tensor, known: Known | None = None, mixture: Tensor | None = None,
                drawn: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        """Denoised stems (B, S, F, L) from noisy ones at level sigma (B,). Known stems come back as they went in.

        Where the mixture is known the noise sums to zero, and the sum of x says it; or else it is told, (B, F, L).
        A sketch is drawn as large as x; `told` (B,) says which items are told theirs, all if not given.
        """
        known = Known.nothing(x) if known is None else known
        S = x.shape[1]
        s2 = sigma.square()[:, None, None, None]  # (B, 1, 1, 1)
        v = self.deviation.square()[:, :, None]  # (S, F, 1)
        free = known.unknown(x)  # (B, S, 1, 1)
        fixed = known.mixture[:, None, None, None]  # (B, 1, 1, 1)

        said = x.sum(1, keepdim=True)  # (B, 1, F, L)
        mixture = said if mixture is None else torch.where(fixed, mixture[:, None], said)
        mixture_noise = s2 * free.sum(1, keepdim=True) * ~fixed
        seen = torch.cat([x / (v + s2 * free).sqrt(), mixture / (v.sum(0) + mixture_noise).sqrt()], 1)
        loud = (pseudo_energy(seen) + 1e-4).log() / 4
        inputs, flags = [seen, loud], known.flags()
        if self.sketched:
            told = torch.full_like(known.mixture, drawn is not None) if told is None else told
            inputs.append(torch.zeros_like(x) if drawn is None else drawn * told[:, None, None, None])
            flags = torch.cat([flags, told[:, None].float()], 1)
        out = self.net(torch.cat(inputs, 1), self.embed(sigma, flags)).float()
        a, g, w = out.split(S, 1)

        left = v * s2 / (v + s2)  # what stays uncertain of each coefficient
        x0 = torch.sigmoid((v / s2).log() + g) * x + left.sqrt() * a
        x0 = torch.where(free > 0, x0, x)
        shares = (left.log() + w).masked_fill(free == 0, -torch.inf).softmax(1).nan_to_num()
        return x0 + fixed * shares * (mixture - x0.sum(1, keepdim=True))


def add_noise(x: Tensor, sigma: Tensor, known: Known | None = None, generator: torch.Generator | None = None,
              n: Tensor | None = None) -> Tensor:
    """x + sigma * P n for clean x (B, S, ...), levels sigma (B,) and white noise n, drawn here if not given."""
    if n is None:
        n = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * project(n, known)


def draw_sigma(count: int, known: Known, free: tuple[float, float], mixture: tuple[float, float],
               generator: torch.Generator) -> Tensor:
    """Training levels, log-normal: (mean, deviation) of ln sigma where nothing is known, and where the mixture is."""
    z = torch.randn(count, generator=generator)
    return torch.where(known.mixture, mixture[0] + mixture[1] * z, free[0] + free[1] * z).exp()


def error(guess: Tensor, x: Tensor, sigma: Tensor, deviation: Tensor, tilt: float = 0.5) -> Tensor:
    """Squared error of a guess at clean x (B, S, F, L), in units of what a Wiener filter leaves, one an item: (B,).

    Each coefficient's is divided by v sigma^2 / (v + sigma^2), its uncertainty under that filter (EDM's weight, per
    bin), and weighted by deviation ** (2 * tilt): 0 treats all bins alike, 1 counts energy.

    Args:
        deviation: of each stem and bin, (S, F); v is its square.
    """
    v = deviation.square()[:, :, None]
    s2 = sigma.square()[:, None, None, None]
    weight = (v / v.mean()) ** tilt
    return (weight * (guess - x).square() * (v + s2) / (v * s2)).mean((1, 2, 3)) / weight.mean()


def loss(denoiser: Denoiser, x: Tensor, sigma: Tensor, known: Known, generator: torch.Generator | None = None,
         tilt: float = 0.5, n: Tensor | None = None, **told: Tensor | None) -> Tensor:
    """Weighted denoising score matching, one value an item: (B,). About one for a net that knows variances alone.

    The `error` of the denoiser, with its own deviations, for each stem that is unknown: a known one has none. The
    white noise n is drawn from the generator if not given. Whatever else the denoiser is told it gets as it is.
    """
    guess = denoiser(add_noise(x, sigma, known, generator, n), sigma, known, **told)
    open_share = (~known.stems).float().mean(1)  # of the stems
    return error(guess, x, sigma, denoiser.deviation, tilt) / open_share
