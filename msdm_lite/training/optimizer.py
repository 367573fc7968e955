"""Optimizers: which one updates which weights. Chapter: `book/05-training.ipynb`.

Muon (Jordan et al., 2024) makes the update of every weight matrix orthogonal, so that all its directions change
equally, not only the few in which the gradient is large. The size of the update is scaled to that of AdamW (Liu et al.,
arXiv 2502.16982), so both use one learning rate. AdamW updates the other weights: norms, biases, embeddings, and the
first and last layers.
"""

from collections.abc import Callable
from typing import Any

import torch

from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.utils.device import fast_bfloat16
from msdm_lite.utils.imports import library

OPTIMIZERS = ("adamw", "muon")


def optimizer(name: str, model: StemModel, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer of that name over all weights of a model.

    Raises:
        InputError: the name is unknown, or a library is not installed.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"there is no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    groups = model.param_groups()
    if name == "adamw":
        vectors = set(map(id, groups.vectors))
        matrices = [p for p in model.parameters() if id(p) not in vectors]
        return torch.optim.AdamW([{"params": matrices, "weight_decay": weight_decay},
                                  {"params": groups.vectors, "weight_decay": 0.0}], lr, betas=(0.9, 0.99))
    Muon = _muon()
    adam = {"use_muon": False, "lr": lr, "betas": (0.9, 0.99), "eps": 1e-8}
    muon = {"use_muon": True, "lr": lr, "use_adjusted_lr": True}
    return Muon([{"params": groups.hidden, "weight_decay": weight_decay, **muon},
                 {"params": groups.edge, "weight_decay": weight_decay, **adam},
                 {"params": groups.vectors, "weight_decay": 0.0, **adam}])


def _muon() -> Callable[[list[dict]], torch.optim.Optimizer]:
    """Muon of `pytorch_optimizer`, which orthogonalises matrices in float32 where bfloat16 is slow.

    The library itself always uses bfloat16. On a CPU without arithmetic for it that took 8 s for a step of `lite`,
    twice as long as the rest of the step.
    """
    Muon: Any = library("pytorch_optimizer", "pytorch-optimizer").Muon
    orthogonal = library("pytorch_optimizer.optimizer.utils").zero_power_via_newton_schulz_5

    class SinglePrecision(Muon):
        @staticmethod
        def _orthogonalize(group: dict, updates: list[torch.Tensor]) -> list[torch.Tensor]:
            if fast_bfloat16(updates[0].device.type):
                return Muon._orthogonalize(group, updates)
            return [orthogonal(update.reshape(len(update), -1), group["ns_steps"], weights=group["ns_coeffs"],
                               dtype=torch.float32) for update in updates]

    return SinglePrecision
