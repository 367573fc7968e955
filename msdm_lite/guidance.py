"""Guidances: how what is known of the stems steers the drift of sampling.

Each function returns a guidance: `(x, sigma, denoise) -> drift`, x (B, S, ...), sigma (B,), drift like x. They are
written line for line alike, so that the eye finds the difference. The plain drift is (x - denoise(x)) / sigma, which is
-sigma times the score; the clean stems that a drift points at are x - sigma * drift. No argument is changed in place.
Chapter: `book/07-separation.ipynb`. Source: Mariani et al., arXiv 2302.02257, section 4 and appendix.
"""

from collections.abc import Callable

from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.known import Known

Denoise = Callable[..., Tensor]
Guidance = Callable[[Tensor, Tensor, Denoise], Tensor]


def along(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma (B,) shaped so that it multiplies x (B, ...)."""
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def unconditional() -> Guidance:
    """The prior alone: total generation."""

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma)) / s
        return d

    return drift


def gaussian(y: Tensor, c: float = 0.75 * 2**0.5) -> Guidance:
    """Separation with the likelihood N(y; sum of the noisy stems, gamma^2), gamma = c sigma.

    Every stem is pulled towards closing the gap between the mixture y (B, ...) and the sum of the stems. The default is
    the paper's 0.75: its code divides by 2 gamma^2 where the likelihood as written divides by gamma^2.
    """
    if c <= 0:
        raise InputError(f"gamma needs a positive factor c, not {c}")

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma)) / s
        gap = (y - x.sum(1)).unsqueeze(1)  # (B, 1, ...)
        d = d - s * gap / (c * s) ** 2
        return d

    return drift


def dirac(y: Tensor, k: int = 0) -> Guidance:
    """Separation with a Dirac likelihood: stem k is, at every noise level, the mixture y (B, ...) minus the others.

    The drift of each other stem loses the drift of stem k, by the chain rule; stem k goes where the sum sends it.
    """

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        old = x
        x = constrain(x, y, k)
        d = (x - denoise(x, sigma)) / s
        d = d - d[:, k : k + 1]
        d = constrain(d, 0 * y, k)
        # One step from the state as it came must end on the constraint too
        return d + (old - x) / s

    return drift


def constrain(x: Tensor, y: Tensor, k: int) -> Tensor:
    """A copy of x (B, S, ...) in which stem k is y minus the sum of the others."""
    if not 0 <= k < x.shape[1]:
        raise InputError(f"there is no stem {k} to constrain among {x.shape[1]}")
    others = x.sum(1) - x[:, k]
    x = x.clone()
    x[:, k] = y - others
    return x


def mixture_known() -> Guidance:
    """Separation inside the subspace of stems that sum to the mixture, for models trained on zero-sum noise.

    The state itself carries the mixture, and the drift stays in the subspace: there is no likelihood to approximate.
    """

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma, Known.the_mixture(x))) / s
        return d

    return drift
