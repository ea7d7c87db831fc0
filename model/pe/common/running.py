"""Cumulative sums over tokens, for schemes that measure distance by the tokens between a key and a query."""

import torch
from torch import Tensor

from ...precision import exact
from ..base import Context


def running_sum(x: Tensor, context: Context) -> Tensor:
    """Sum of x (B, T, ...) up to and including each token, float64 (`precision.exact`).

    In packed rows the sum restarts in each document. Only differences matter, and the sum grows without bound, hence
    float64. Restarting changes no difference within a document and gives it the same numbers as in a row of its own.
    """
    x = exact(x)
    total = x.cumsum(1)
    if context.documents is None:
        return total
    documents, index = context.documents.to(x.device), torch.arange(x.shape[1], device=x.device)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    first = torch.where(starts, index, 0).cummax(1).values  # (B, T)
    preceding = (total - x).flatten(2)
    start = preceding.gather(1, first[..., None].expand(-1, -1, preceding.shape[2]))
    return total - start.view_as(total)
