"""A compressed front end: MDCT frames in few numbers, by principal components.

The map keeps the first `kept` of an orthonormal basis of frames (bins, L). What it keeps stays orthonormal, so white
noise stays white and sums stay sums. What it drops is gone for good, and no model behind it can bring it back. That is
the price of a small picture, as it is of every learned autoencoder; here it can be computed.
Chapter: `book/04-joint-unet.ipynb`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.transform import MDCT


class Compressed:
    """MDCT frames (bins,) as `kept` principal components, the same for all stems.

    Args:
        mdct: the transform that makes the frames.
        basis: (kept, bins) with orthonormal rows, as `fit` returns.

    Raises:
        InputError: a basis whose rows are not orthonormal, or of another length than the frames.
    """

    def __init__(self, mdct: MDCT, basis: Tensor):
        if basis.ndim != 2 or basis.shape[1] != mdct.bins or len(basis) > mdct.bins:
            raise InputError(f"a basis of frames of {mdct.bins} bins is (kept, {mdct.bins}), not {tuple(basis.shape)}")
        if (basis @ basis.T - torch.eye(len(basis)).to(basis)).abs().max() > 1e-4:
            raise InputError("the rows of the basis are not orthonormal")
        self.mdct, self.basis, self.bins = mdct, basis, len(basis)

    @classmethod
    def fit(cls, mdct: MDCT, waves: Iterable[Tensor], kept: int) -> "Compressed":
        """The components that hold most of the power of sounds (..., T), T multiples of the MDCT's bins.

        Raises:
            InputError: no sounds, or more components than bins, or none.
        """
        if not 1 <= kept <= mdct.bins:
            raise InputError(f"from 1 to {mdct.bins} components can be kept, not {kept}")
        power = None
        for wave in waves:
            frames = mdct.forward(wave.double()).transpose(-1, -2).reshape(-1, mdct.bins)
            power = frames.T @ frames if power is None else power + frames.T @ frames
        if power is None:
            raise InputError("no sounds to fit the components to")
        _, vectors = torch.linalg.eigh(power)  # rising
        return cls(mdct, vectors[:, -kept:].flip(-1).T.float().contiguous())

    def forward(self, wave: Tensor) -> Tensor:
        """(..., T) -> (..., kept, T / bins)."""
        return self.basis.to(wave) @ self.mdct.forward(wave)

    def inverse(self, picture: Tensor) -> Tensor:
        """(..., kept, L) -> (..., T): the nearest sound that the components can make."""
        return self.mdct.inverse(self.basis.to(picture).T @ picture)

    def best_sdr(self, wave: Tensor) -> Tensor:
        """Signal to distortion (dB, shape (...)) of sounds (..., T) there and back; no model behind it does better."""
        lost = (wave - self.inverse(self.forward(wave))).square().sum(-1)
        return 10 * torch.log10(wave.square().sum(-1) / lost.clamp(min=1e-20))
