"""The same network trained to separate and nothing else: the mixture in, the stems out, in one pass.

It is what the generative models are measured against: same backbone, same data, same front end. It fits the denoiser
contract with the mixture known, since at any noise level its answer is the posterior mean that the mixture alone
allows; so whatever separates with a model separates with this one. Chapter: `book/10-measuring.ipynb`.
"""

import torch
from torch import Tensor

from msdm_lite.diffusion import error
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.model import Model

LEVEL = 10.0  # the noise level that the network is told: so much that the stems in it say nothing


class Supervised(Model):
    """A model of MDCT pictures that sees the mixture alone."""

    shares = (0.0, 1.0, 0.0, 0.0)

    def learned(self, mixture: bool = False, stems: bool = False) -> bool:
        """It learned to separate, with no stem given."""
        return mixture and not stems

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None,
                sketch: Tensor | None = None) -> Tensor:
        """Stems (B, S, bins, L) that sum to the sum of x, whatever else is in x and at whatever level.

        Raises:
            InputError: the mixture is not known, some stems are, or a sketch is given; it was not trained on that.
        """
        if sketch is not None:
            raise InputError("this model cannot be told a sketch")
        if known is None or not known.mixture.all() or known.stems.any():
            raise InputError("a supervised model separates a mixture and does nothing else: method mixture-known, "
                             "without given stems")
        even = x.mean(1, keepdim=True).expand_as(x)
        return self.denoiser(even, torch.full_like(sigma, LEVEL), known)

    def loss(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor, sketched: Tensor | None = None) -> Tensor:
        """Error of the stems found in the sum of clean x (B, S, bins, L), one value an item: (B,). No noise enters."""
        del known, noise, sketched
        level = torch.full_like(sigma, LEVEL)
        return error(self.denoise(x, level, Known.the_mixture(x)), x, level, self.denoiser.deviation)
