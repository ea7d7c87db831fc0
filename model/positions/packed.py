import torch
from torch import Tensor

from .base import PositionPlan, Sequences


class Packed(PositionPlan):
    """0, 1, 2, ... anew in each document of a packed row: every document is encoded as if it were alone.

    The mask restarts with the positions (`documents` of the model's forward pass); without it two keys would share a
    position. Rows without documents are one document each.
    """

    contiguous = False

    def active(self, training: bool, packed: bool = False) -> bool:
        return packed

    def positions(self, length: int, of: Sequences) -> Tensor:
        index, documents = torch.arange(length, device=of.device)[None], of.documents
        if documents is None:
            return index
        first = torch.zeros_like(documents)
        first[:, 1:] = torch.where(documents[:, 1:] != documents[:, :-1], index[:, 1:], 0)
        return index - first.cummax(dim=1).values
