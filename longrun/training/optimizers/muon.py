"""Muon for the matrices inside the layers, AdamW for all other parameters.

Muon orthogonalises the momentum: https://kellerjordan.github.io/posts/muon. Its step is scaled to the size of AdamW's
(arXiv 2502.16982), so that one learning rate serves both.
"""

from collections.abc import Callable

import torch
from torch import nn

from longrun.training.parameters import by_decay, hidden_matrices, supports_fused
from model.errors import ModelError


def muon(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
    momentum: float = 0.95,
) -> torch.optim.Optimizer:
    """betas, eps: AdamW's.  momentum: Muon's. Raises ModelError if the model has no linear layer inside it."""
    hidden = hidden_matrices(model)
    inside = [p for p in model.parameters() if p in hidden]
    outside = [p for p in model.parameters() if p not in hidden]
    if not inside:
        raise ModelError("optim.name=muon: this model has no linear layer inside it. Use optim.name=adamw.")
    matrices = torch.optim.Muon(
        by_decay(inside, weight_decay), lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"
    )
    fused = supports_fused(model)
    rest = torch.optim.AdamW(by_decay(outside, weight_decay), lr=lr, betas=betas, eps=eps, fused=fused)
    groups = [{**g, "muon": True} for g in matrices.param_groups] + [{**g, "muon": False} for g in rest.param_groups]
    return MuonAdamW(groups, matrices, rest)


class MuonAdamW(torch.optim.Optimizer):
    """Two optimizers with one list of groups and one state. Groups with `muon=True` belong to Muon."""

    def __init__(self, groups: list[dict], muon: torch.optim.Muon, adamw: torch.optim.AdamW):
        self._parts = {True: muon, False: adamw}
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for is_muon, optimizer in self._parts.items():
            # Assigned at every step, because loading a state replaces the objects.
            optimizer.param_groups = [group for group in self.param_groups if group["muon"] is is_muon]
            optimizer.state = self.state
            optimizer.step()
        return loss
