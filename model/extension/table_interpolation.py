import torch
from torch import Tensor

from ..pe.base import Context, PositionEncoding
from ..pe.learned import Learned
from .base import Extension


class TableInterpolation(Extension):
    """A learned table of positions with its rows interpolated, position interpolation (2306.15595) for absolute codes.

    The first and the last row stay at the two ends of the longer sequence. Meant for a short fine-tuning.
    """

    applies_to = "learned"

    def fits(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Learned)

    def apply(self, encoding: Learned, length: int) -> PositionEncoding:
        return InterpolatedTable(encoding, max(length, encoding.max_positions))


class InterpolatedTable(PositionEncoding):
    """The rows of a learned table spread over `length` positions."""

    def __init__(self, table: Learned, length: int):
        super().__init__(table.shape)
        self.learned, self.max_positions = table, length

    def embed(self, x: Tensor, context: Context) -> Tensor:
        rows = self.learned.rows
        at = context.query_positions.double() * ((len(rows) - 1) / max(1, self.max_positions - 1))
        below = at.long().clamp(max=len(rows) - 1)
        above = (below + 1).clamp(max=len(rows) - 1)
        share = (at - below).float()[..., None]
        return x + torch.lerp(rows[below].float(), rows[above].float(), share).to(x.dtype)
