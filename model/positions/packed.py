import torch
from torch import Tensor

from .base import PositionPlan, SequenceBatch


class Packed(PositionPlan):
    """0, 1, 2, ... restarting in each document of a packed row: every document is encoded as if it were alone.

    Attention is restricted to the own document as well (`documents` of the model's forward pass); otherwise two visible
    keys would share a position. Rows without documents are one document each.
    """

    contiguous = False

    def active(self, training: bool, packed: bool = False) -> bool:
        return packed

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        index, documents = torch.arange(length, device=of.device)[None], of.documents
        if documents is None:
            return index
        first = torch.zeros_like(documents)
        first[:, 1:] = torch.where(documents[:, 1:] != documents[:, :-1], index[:, 1:], 0)
        return index - first.cummax(dim=1).values
