"""Guidances: how conditions on the stems change the ODE derivative d of sampling.

Each function returns a guidance: `(x, sigma, denoise) -> d`, x (B, S, ...), sigma (B,), d like x. All have the same
lines in the same order, so that they can be compared. Without guidance d = (x - denoise(x)) / sigma, which is -sigma
times the score; the estimate of the clean stems is x - sigma * d. No argument is changed in place. `among` gives the
indices of the stems that sum to y, where the others are known; y is then the mixture minus the known stems. Chapter:
`book/07-separation.ipynb`. Sources: Mariani et al., arXiv 2302.02257, section 4 and appendix (Gaussian, Dirac); Song et
al., ICLR 2023 (PiGDM); Ho and Salimans, arXiv 2207.12598 (classifier-free).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from msdm_lite.diffusion.conditioning import Conditioning, Denoise
from msdm_lite.errors import InputError

#: `guidance(x, sigma, denoise)` of x (B, S, ...) and sigma (B,) returns the ODE derivative d, like x.
Guidance = Callable[[Tensor, Tensor, Denoise], Tensor]


@dataclass(frozen=True)
class Ending:
    """A guidance that says which clean stems it ends on.

    A step to sigma = 0 along d would end on x - sigma d, which for some likelihoods still has noise of the last level:
    at 0.01, a sixth of the level of a stem.

    Args:
        derivative: the guidance.
        end: `end(x, sigma, denoise)`, the clean stems, like x, after the last level sigma above 0.
        remedies: what may help where the sampler diverges.
    """

    derivative: Guidance
    end: Guidance
    remedies: Sequence[str] = ()

    def __call__(self, x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        return self.derivative(x, sigma, denoise)


def along(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma (B,) reshaped to broadcast to x (B, ...)."""
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def unconditional() -> Guidance:
    """The prior without conditions: total generation."""

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma)) / s
        return d

    return derivative


def gaussian(y: Tensor, c: float = 0.75 * 2**0.5, among: Sequence[int] | None = None) -> Guidance:
    """Separation with the likelihood N(y; sum of the noisy stems, gamma^2), gamma = c sigma.

    The likelihood's gradient is the same for every stem: the mixture y (B, ...) minus the sum of the stems, over
    gamma^2. The default is the paper's 0.75: its code divides by 2 gamma^2 where the likelihood as written divides by
    gamma^2. Source: arXiv 2302.02257, section 4.

    Raises:
        InputError: c is not a positive number; when called, `among` has an index without a stem.
    """
    if not 0 < c < float("inf"):
        raise InputError(f"gamma needs a positive factor c, not {c}")

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma)) / s
        residual = (y - total(x, among)).unsqueeze(1)  # (B, 1, ...)
        d = torch.addcmul(d, selector(x, among), s * residual / (c * s) ** 2, value=-1)
        return d

    return Ending(derivative, lambda x, sigma, denoise: denoise(x, sigma), [f"c above {c:.3g}"])


def dirac(y: Tensor, k: int | Sequence[int] = 0, among: Sequence[int] | None = None) -> Guidance:
    """Separation with a Dirac likelihood: stem k is, at every noise level, the mixture y (B, ...) minus the others.

    By the chain rule, d of stem k is subtracted from d of each other stem; d of stem k follows from the sum. Several k
    are used in turn, each for a quarter of an octave of noise levels: which one depends on the level alone, not on what
    was computed before. Source: arXiv 2302.02257, section 4.

    Raises:
        InputError: when called, k or `among` has an index without a stem.
    """
    stems = [k] if isinstance(k, int) else list(k)

    def constrained(sigma: Tensor) -> int:
        turn = math.floor(-4 * math.log2(float(sigma[0]))) if len(stems) > 1 else 0
        return stems[turn % len(stems)]

    def end(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        k = constrained(sigma)
        return constrain(denoise(constrain(x, y, k, among), sigma), y, k, among)

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s, k = along(sigma, x), constrained(sigma)
        x, off = constrain(x, y, k, among), x[:, k]
        off = off - x[:, k]
        d = x.sub_(denoise(x, sigma)).div_(s)  # in place in the copy: the state of a long song is large
        d = torch.addcmul(d, selector(x, among), d[:, k : k + 1], value=-1)
        # d sums to zero; and one step to sigma = 0 from the x that was passed in must satisfy the constraint too
        d[:, k] = off / s[:, 0] - total(d, among)
        return d

    return Ending(derivative, end)


def wiener(y: Tensor, variance: Tensor, among: Sequence[int] | None = None) -> Guidance:
    """Separation in which the estimated clean stems are corrected to sum to y (B, ...), by shares of their uncertainty.

    It is `pigdm` with the Jacobian of a Wiener filter in place of the network's, so it needs no backward pass, and the
    sum is exactly y.

    Args:
        variance: of each clean stem, broadcasting to one item of x: (S, 1, ...) or (S, bins, 1).
    """

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        x0 = denoise(x, sigma)
        left = selector(x, among) * variance * s**2 / (variance + s**2)  # posterior variance of each stem
        residual = (y - total(x0, among)).unsqueeze(1)
        x0 = torch.addcmul(x0, left / left.sum(1, keepdim=True), residual)
        d = (x - x0).div_(s)
        return d

    return derivative


def pigdm(y: Tensor, variance: Tensor, among: Sequence[int] | None = None,
          gradient_clip: float = float("inf")) -> Guidance:
    """Separation with the likelihood N(y; sum of the denoised stems, posterior variance of that sum): PiGDM.

    Exact for independent Gaussian stems of that variance. Each evaluation has one backward pass through the denoiser.
    Source: Song et al., ICLR 2023.

    Args:
        variance: as for `wiener`.
        gradient_clip: upper bound of the norm of the likelihood's gradient, in units of the norm of the correction of
            `wiener`. The Jacobian of a network, unlike that of an exact denoiser, can make the gradient very large.
    """

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            x0 = denoise(noisy, sigma)
            sums = total(x0, among)
        left = selector(x, among) * variance * s**2 / (variance + s**2)
        residual = y - sums.detach()
        gradient = torch.autograd.grad(sums, noisy, (residual / left.sum(1)).to(sums))[0]
        if gradient_clip < float("inf"):
            ratio = along(norms(s**2 * gradient) / norms(left / left.sum(1, keepdim=True) * residual.unsqueeze(1)), x)
            gradient = gradient * (gradient_clip / ratio).nan_to_num(1.0).clamp(max=1)  # 0 / 0 where the residual is 0
        x0 = torch.addcmul(x0.detach(), s**2, gradient)
        d = (x - x0).div_(s)
        return d

    return derivative


def classifier_free(conditional: Callable[[Tensor, Tensor], Tensor], weight: float = 1.0) -> Guidance:
    """Separation by a denoiser conditioned on the mixture, extrapolated away from its unconditional estimate.

    Args:
        conditional: (x, sigma) -> x0, with the mixture (or another condition) bound.
        weight: 0 is the prior, 1 the conditional model. Above 1 the difference is exaggerated: samples then do not
            follow the posterior.

    Raises:
        InputError: the weight is below 0, or infinite.
    """
    if not 0 <= weight < float("inf"):
        raise InputError(f"the weight of the guidance must be 0 or more, not {weight}")

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        conditional_x0 = conditional(x, sigma)
        x0 = conditional_x0 if weight == 1 else denoise(x, sigma) * (1 - weight) + weight * conditional_x0
        d = (x - x0).div_(s)
        return d

    return derivative


def conditioned(conditioning: Conditioning | None) -> Guidance:
    """All tasks, for models trained with conditioning: the mixture, some stems, both, or nothing is known.

    The state contains what is known, and d stays in the subspace of what is unknown, so no likelihood is approximated.
    The samplers need the same `conditioning`, so that the noise they add lies in the same subspace.
    """

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma, conditioning)).div_(s)
        return d

    return derivative


def conditioned_with_weight(conditioning: Conditioning, n: Tensor, weight: float = 1.0) -> Guidance:
    """`conditioned` on given stems, extrapolated away from the estimate in which those are as noisy as the others.

    Classifier-free guidance with one network: trained with every conditioning, it is both the conditional and the
    unconditional denoiser.

    Args:
        n: white noise like x, added to the given stems for the unconditional estimate; the same at all noise levels.
        weight: 1 is `conditioned`. Above 1 the effect of the given stems is exaggerated: samples then do not follow
            the posterior.

    Raises:
        InputError: the weight is below 0, or infinite.
    """
    if not 0 <= weight < float("inf"):
        raise InputError(f"the weight of the guidance must be 0 or more, not {weight}")

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        conditional_x0 = denoise(x, sigma, conditioning)
        x0 = denoise(x + s * n * (1 - conditioning.unknown(x)), sigma,
                     Conditioning.none(x)) * (1 - weight) + weight * conditional_x0
        d = (x - x0).mul_(conditioning.unknown(x)).div_(s)  # the given stems do not change
        return d

    return derivative


def mixture_constrained() -> Guidance:
    """`conditioned` on the mixture alone, for a batch of any size."""

    def derivative(x: Tensor, sigma: Tensor, denoise: Denoise) -> Tensor:
        s = along(sigma, x)
        d = (x - denoise(x, sigma, Conditioning.on_mixture(x))).div_(s)
        return d

    return derivative


def total(x: Tensor, among: Sequence[int] | None) -> Tensor:
    """Sum of the stems of x (B, S, ...) with the indices `among`, all if None: (B, ...).

    Raises:
        InputError: `among` is empty, or has an index without a stem.
    """
    if among is None:
        return x.sum(1)
    if not among or not all(0 <= n < x.shape[1] for n in among):
        raise InputError(f"stems {list(among)} are not some of {x.shape[1]}")
    summed: Tensor = reduce(torch.add, (x[:, n] for n in among))  # one at a time: those of a long song are large
    return summed


def norms(v: Tensor) -> Tensor:
    """Euclidean norm of each item of v (B, ...): (B,)."""
    lengths: Tensor = v.flatten(1).norm(dim=1)
    return lengths


def selector(x: Tensor, among: Sequence[int] | None) -> Tensor:
    """1 for the stems of x (B, S, ...) with the indices `among`, 0 for the others: (1, S, 1, ...)."""
    part = torch.full((1, x.shape[1], *[1] * (x.ndim - 2)), float(among is None), dtype=x.dtype, device=x.device)
    if among is not None:
        part[:, list(among)] = 1
    return part


def constrain(x: Tensor, y: Tensor, k: int, among: Sequence[int] | None = None) -> Tensor:
    """A copy of x (B, S, ...) in which stem k is y minus the sum of the others.

    Raises:
        InputError: k is no index of a stem, or is not in `among`.
    """
    if k not in (range(x.shape[1]) if among is None else among):
        raise InputError(f"there is no stem {k} to constrain among {x.shape[1] if among is None else list(among)}")
    others = total(x, among) - x[:, k]
    x = x.clone()
    x[:, k] = y - others
    return x
