"""A model that can be told the mixture while all its stems are noisy: what classifier-free guidance asks for.

In training the mixture is told for some crops and not for others. So one network is both the prior and the conditional
model, and guidance can go from one to the other and beyond. Nothing of the sum is built into its noise, other than in
`msdm_lite.model.Model`. Source: Ho and Salimans, arXiv 2207.12598. Chapter: `book/11-beyond-the-paper.ipynb`.
"""

from torch import Tensor

from msdm_lite.diffusion import add_noise, error
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import Model


class Guided(Model):
    """A model of MDCT pictures with the clean mixture as a further input that may be missing."""

    takes_known = False
    takes_mixture = True
    shares = (0.3, 0.7, 0.0, 0.0)  # of the crops, that are not told and told

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None, mixture: Tensor | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at level sigma (B,), with the clean mixture (B, bins, L) or without.

        Raises:
            InputError: noise of another shape than on all stems; the network was not trained on that.
        """
        if known is not None and known.anything():
            raise InputError("this model knows noise on all stems only: tell it the mixture with method guided")
        flags = Known.nothing(x) if mixture is None else Known.the_mixture(x)
        return self.denoiser(x, sigma, flags, mixture)

    def loss(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor, sketched: Tensor | None = None) -> Tensor:
        """The training loss, one value an item: (B,). `known.mixture` says which are told; all stems are noisy."""
        guess = self.denoiser(add_noise(x, sigma, n=noise), sigma, Known(known.mixture, known.stems & False), x.sum(1))
        return error(guess, x, sigma, self.denoiser.deviation)
