"""Independent models, one a stem, behind the interface of one model: the paper's weakly supervised setting (ISDM).

Each stem is denoised by its own model, which has no access to the others. So every sampler and guidance runs unchanged,
at the cost of one network per stem, and without context. Source: arXiv 2302.02257, section 4.
Chapter: `book/09-does-context-matter.ipynb`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel


class IndependentModels(StemModel):
    """Single-stem models with the interface of one model.

    Args:
        models: one for each stem, in the order of the stems, all with the same front end.

    Raises:
        InputError: no model, a model of several stems, a repeated stem, or different front ends.
    """

    takes_conditioning = False

    def __init__(self, models: Sequence[StemModel]):
        if not models:
            raise InputError("independent models: at least one is needed")
        names = [name for model in models for name in model.stems]
        if len(names) != len(models) or len(set(names)) != len(names):
            raise InputError(f"independent models are of one stem each, not {', '.join(names)}")
        front = {(type(m.transform), m.transform.hop, m.transform.rows, m.config.frames, m.sample_rate) for m in models}
        if len(front) > 1:
            raise InputError(f"the models of {', '.join(names)} have different front ends")
        super().__init__(replace(models[0].config, stems=tuple(names)), nn.Identity(), models[0].transform)
        del self.denoiser
        self.models: Any = nn.ModuleList(models)
        records = {name: model.record for name, model in zip(names, models, strict=True)}
        self.record = {key: sum(record.get(key, 0) for record in records.values()) for key in ("steps", "minutes")}
        self.record |= {"commit": ", ".join(sorted({record.get("commit", "unknown") for record in records.values()})),
                        "models": records}

    @property
    def variance(self) -> Tensor:
        return torch.cat([model.variance for model in self.models])

    def denoise(self, x: Tensor, sigma: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at noise level sigma (B,).

        Raises:
            InputError: anything is known; these models take no conditioning.
        """
        if conditioning is not None:
            conditioning.require("independent models")
        if conditioning is not None and conditioning.any_known():
            raise InputError("independent models were trained with noise on all stems only: they take no conditioning")
        return torch.cat([model.denoise(x[:, n : n + 1], sigma) for n, model in enumerate(self.models)], 1)

    def loss(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, noise: Tensor) -> Tensor:
        """Always raises InputError: each model is trained alone."""
        raise InputError("independent models are trained one by one")
