"""Which optimizer moves which weights. Chapter: `book/07-separation.ipynb`.

Muon (Jordan et al., 2024) makes the update of every weight matrix orthogonal: all its directions move alike, not the
few that the gradient favours. Its size is scaled to that of AdamW (Liu et al., arXiv 2502.16982), so one learning rate
serves both. AdamW keeps what is no matrix: norms, biases, embeddings, and the layers where pictures enter and leave.
"""

import torch
from torch import nn

from msdm_lite.errors import InputError

OPTIMIZERS = ("adamw", "muon")


def optimizer(name: str, model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer of that name over all weights of a model.

    Raises:
        InputError: an unknown name, or a library that is not installed.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"there is no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    plain = [p for p in model.parameters() if p.ndim <= 1]
    if name == "adamw":
        decayed = [p for p in model.parameters() if p.ndim > 1]
        return torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay},
                                  {"params": plain, "weight_decay": 0.0}], lr, betas=(0.9, 0.99))
    try:
        from pytorch_optimizer import Muon
    except ImportError:
        raise InputError("the optimizer muon needs pytorch-optimizer: pip install pytorch-optimizer") from None
    edge = ("folding.", "place.", "embed.", "to_in.", "to_out.")
    named = [(n, p) for n, p in model.named_parameters() if p.ndim > 1]
    inner = [p for n, p in named if not any(word in n for word in edge)]
    outer = [p for n, p in named if any(word in n for word in edge)]
    adam = {"use_muon": False, "lr": lr, "betas": (0.9, 0.99), "eps": 1e-8}
    muon = {"use_muon": True, "lr": lr, "use_adjusted_lr": True}
    return Muon([{"params": inner, "weight_decay": weight_decay, **muon},
                 {"params": outer, "weight_decay": weight_decay, **adam},
                 {"params": plain, "weight_decay": 0.0, **adam}])
