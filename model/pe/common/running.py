"""Sums along a text: the clocks of schemes whose distances are made of what lies between two tokens."""

import torch
from torch import Tensor

from ...precision import exact
from ..base import Context


def running_sum(x: Tensor, context: Context) -> Tensor:
    """Sum of x (B, T, ...) up to each token, itself included, float64 (`precision.exact`); in packed rows of its own
    document only.

    It grows without bound and only differences matter, hence float64. Restarting changes no difference within a
    document, and makes a document in a packed row the same number for number as alone.
    """
    x = exact(x)
    total = x.cumsum(1)
    if context.documents is None:
        return total
    documents, index = context.documents.to(x.device), torch.arange(x.shape[1], device=x.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    first = torch.where(begins, index, 0).cummax(1).values  # (B, T)
    before = (total - x).flatten(2)
    start = before.gather(1, first[..., None].expand(-1, -1, before.shape[2]))
    return total - start.view_as(total)
