"""Guidances: how what is known of the stems steers the drift of sampling.

Each function returns a guidance: `(x, sigma, denoise) -> drift`, x (B, S, ...), sigma (B,), drift like x. They are
written line for line alike, so that the eye finds the difference. The plain drift is (x - denoise(x)) / sigma, which is
-sigma times the score; the clean stems that a drift points at are x - sigma * drift. No argument is changed in place.
`among` names the stems that sum to y, by number, where others are known already; y then is what those leave.
Chapter: `book/07-separation.ipynb`. Sources: Mariani et al., arXiv 2302.02257, section 4 and appendix (Gaussian,
Dirac); Song et al., ICLR 2023 (PiGDM); Ho and Salimans, arXiv 2207.12598 (classifier-free).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import cycle

import torch
from torch import Tensor

from msdm_lite.diffusion.noise import Conditioning
from msdm_lite.errors import InputError

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


def gaussian(y: Tensor, c: float = 0.75 * 2**0.5, among: Sequence[int] | None = None) -> Guidance:
    """Separation with the likelihood N(y; sum of the noisy stems, gamma^2), gamma = c sigma.

    Every stem is pulled towards closing the gap between the mixture y (B, ...) and the sum of the stems. The default is
    the paper's 0.75: its code divides by 2 gamma^2 where the likelihood as written divides by gamma^2.

    Raises:
        InputError: c is not a positive number; when called, `among` that are no stems.
    """
    if not 0 < c < float("inf"):
        raise InputError(f"gamma needs a positive factor c, not {c}")

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma)) / s
        gap = (y - total(x, among)).unsqueeze(1)  # (B, 1, ...)
        d = torch.addcmul(d, selector(x, among), s * gap / (c * s) ** 2, value=-1)
        return d

    return drift


def dirac(y: Tensor, k: int | Sequence[int] = 0, among: Sequence[int] | None = None) -> Guidance:
    """Separation with a Dirac likelihood: stem k is, at every noise level, the mixture y (B, ...) minus the others.

    The drift of each other stem loses the drift of stem k, by the chain rule; stem k goes where the sum sends it.
    Several k take turns, from one evaluation to the next.

    Raises:
        InputError: when called: k, or `among`, that are no stems.
    """
    turns = cycle([k] if isinstance(k, int) else k)

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s, k = along(sigma, x), next(turns)
        x, off = constrain(x, y, k, among), x[:, k]
        off = off - x[:, k]
        d = x.sub_(denoise(x, sigma)).div_(s)  # in a copy of our own: the state of a long song is large
        d = torch.addcmul(d, selector(x, among), d[:, k : k + 1], value=-1)
        # The sum rests; and one step from the state as it came must end on the constraint too
        d[:, k] = off / s[:, 0] - total(d, among)
        return d

    return drift


def wiener(y: Tensor, variance: Tensor, among: Sequence[int] | None = None) -> Guidance:
    """Separation in which the clean stems, as guessed, are made to sum to y (B, ...), the least certain moving most.

    It is `pigdm` with the Jacobian of a Wiener filter in place of the network's: no backward pass, and the sum is y.

    Args:
        variance: of each clean stem, broadcasting to one item of x: (S, 1, ...) or (S, bins, 1).
    """

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        x0 = denoise(x, sigma)
        left = selector(x, among) * variance * s**2 / (variance + s**2)  # what stays uncertain of each stem
        gap = (y - total(x0, among)).unsqueeze(1)
        x0 = torch.addcmul(x0, left / left.sum(1, keepdim=True), gap)
        d = (x - x0).div_(s)
        return d

    return drift


def pigdm(y: Tensor, variance: Tensor, among: Sequence[int] | None = None,
          gradient_clip: float = float("inf")) -> Guidance:
    """Separation with the likelihood N(y; sum of the denoised stems, what stays uncertain of it): PiGDM.

    Exact for independent Gaussian stems of that variance. One backward pass through the denoiser an evaluation.

    Args:
        variance: as for `wiener`.
        trust: the pull is at most so many times as long as that of `wiener`. A network's Jacobian, unlike an exact
            denoiser's, may blow it up.
    """

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            x0 = denoise(at, sigma)
            sums = total(x0, among)
        left = selector(x, among) * variance * s**2 / (variance + s**2)
        gap = y - sums.detach()
        pull = torch.autograd.grad(sums, at, (gap / left.sum(1)).to(sums))[0]
        if gradient_clip < float("inf"):
            longer = along(norms(s**2 * pull) / norms(left / left.sum(1, keepdim=True) * gap.unsqueeze(1)), x)
            pull = pull * (gradient_clip / longer).nan_to_num(1.0).clamp(max=1)  # 0 / 0 where nothing is missing
        x0 = torch.addcmul(x0.detach(), s**2, pull)
        d = (x - x0).div_(s)
        return d

    return drift


def classifier_free(conditional: Denoise, weight: float = 1.0) -> Guidance:
    """Separation by a denoiser conditioned on the mixture, extrapolated away from its unconditional estimate.

    Args:
        conditional: (x, sigma) -> x0, with the mixture (or another condition) bound.
        weight: 0 is the prior, 1 the conditional model itself, more exaggerates the difference and is no posterior.

    Raises:
        InputError: the weight is below 0, or infinite.
    """
    if not 0 <= weight < float("inf"):
        raise InputError(f"the weight of the guidance must be 0 or more, not {weight}")

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        conditional_x0 = conditional(x, sigma)
        x0 = conditional_x0 if weight == 1 else denoise(x, sigma) * (1 - weight) + weight * conditional_x0
        d = (x - x0).div_(s)
        return d

    return drift


def conditioned(conditioning: Conditioning | None) -> Guidance:
    """Every task at once, for models trained on shapes of noise: the mixture, some stems, both, or nothing is known.

    The state itself carries what is known, and the drift stays in the subspace of what is not: there is no likelihood
    to approximate. The samplers need the same `conditioning`, so that the noise they add lies in the same subspace.
    """

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma, conditioning)).div_(s)
        return d

    return drift


def conditioned_with_weight(conditioning: Conditioning, n: Tensor, weight: float = 1.0) -> Guidance:
    """`inside` where some stems are known, pushed away from what the model says when those are as noisy as the others.

    Classifier-free guidance without a further model: a network of noise of every shape is both the one that hears the
    given stems and the one that does not.

    Args:
        n: white noise like x, for the given stems as the second one hears them; the same at all levels.
        weight: 1 is `inside`, more exaggerates what the given stems say, and is no posterior.

    Raises:
        InputError: the weight is below 0, or infinite.
    """
    if not 0 <= weight < float("inf"):
        raise InputError(f"the weight of the guidance must be 0 or more, not {weight}")

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        conditional_x0 = denoise(x, sigma, conditioning)
        x0 = denoise(x + s * n * (1 - conditioning.unknown(x)), sigma,
                     Conditioning.none(x)) * (1 - weight) + weight * conditional_x0
        d = (x - x0).mul_(conditioning.unknown(x)).div_(s)  # the given stems rest
        return d

    return drift


def mixture_constrained() -> Guidance:
    """`inside` where the mixture is known, and nothing else, of whatever batch comes."""

    def drift(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma, Conditioning.on_mixture(x))).div_(s)
        return d

    return drift


def total(x: Tensor, among: Sequence[int] | None) -> Tensor:
    """Sum of the stems of x (B, S, ...) that are among those named: (B, ...).

    Raises:
        InputError: they are not some of these stems.
    """
    if among is None:
        return x.sum(1)
    if not among or not all(0 <= n < x.shape[1] for n in among):
        raise InputError(f"stems {list(among)} are not some of {x.shape[1]}")
    return reduce(torch.add, (x[:, n] for n in among))  # one at a time: those of a long song are large


def norms(v: Tensor) -> Tensor:
    """Euclidean length of each item of v (B, ...): (B,)."""
    return v.flatten(1).norm(dim=1)


def selector(x: Tensor, among: Sequence[int] | None) -> Tensor:
    """1 for the stems of x (B, S, ...) that are among those named, 0 for the others: (1, S, 1, ...)."""
    part = torch.full((1, x.shape[1], *[1] * (x.ndim - 2)), float(among is None), dtype=x.dtype, device=x.device)
    if among is not None:
        part[:, list(among)] = 1
    return part


def constrain(x: Tensor, y: Tensor, k: int, among: Sequence[int] | None = None) -> Tensor:
    """A copy of x (B, S, ...) in which stem k is y minus the sum of the others.

    Raises:
        InputError: there is no stem k among them.
    """
    if k not in (range(x.shape[1]) if among is None else among):
        raise InputError(f"there is no stem {k} to constrain among {x.shape[1] if among is None else list(among)}")
    others = total(x, among) - x[:, k]
    x = x.clone()
    x[:, k] = y - others
    return x
