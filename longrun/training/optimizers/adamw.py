"""AdamW (arXiv 1711.05101)."""

import torch
from torch import nn

from longrun.training.parameters import by_decay, supports_fused


def adamw(
    model: nn.Module, *, lr: float, betas: tuple[float, float], weight_decay: float, eps: float = 1e-8
) -> torch.optim.Optimizer:
    groups = by_decay(model.parameters(), weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=supports_fused(model))
