import torch
from torch import Tensor

from ..pe.base import Context, PositionEncoding
from ..pe.learned import Learned
from ..precision import exact
from .base import Extension


class TableInterpolation(Extension):
    """Position interpolation (2306.15595) of a learned table: intermediate rows by linear interpolation.

    The first and the last row are those of the first and last position of the longer sequence. Meant for a short
    fine-tuning at that length.
    """

    scope = "learned"

    def applies_to(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Learned)

    def apply(self, encoding: Learned, length: int) -> PositionEncoding:
        return InterpolatedTable(encoding, max(length, len(encoding.rows)))


class InterpolatedTable(PositionEncoding):
    """The rows of a learned table spread over `length` positions."""

    def __init__(self, table: Learned, length: int):
        super().__init__(table.shape)
        self.learned, self.length = table, length
        self.max_positions = length

    def embed(self, x: Tensor, context: Context) -> Tensor:
        rows = self.learned.rows
        scaled = exact(context.query_positions) * ((len(rows) - 1) / max(1, self.length - 1))
        floor = scaled.long()
        share = (scaled - floor).float().to(rows.device)[..., None]
        below = floor.to(rows.device).clamp(max=len(rows) - 1)
        above = (below + 1).clamp(max=len(rows) - 1)
        return x + torch.lerp(rows[below].float(), rows[above].float(), share).to(x.dtype)
