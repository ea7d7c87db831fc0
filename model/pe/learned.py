import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, require


class Learned(PositionEncoding):
    """Learned absolute positions (1810.04805, GPT-2): x_t + P[t], P (rows, D) drawn from N(0, 0.02^2).

    rows: positions in the table; null is the training length. Longer inputs are refused, not clipped to the last row.
    """

    def __init__(self, shape: Shape, *, rows: int | None):
        super().__init__(shape)
        rows = shape.train_length if rows is None else rows
        require(
            rows >= shape.train_length,
            f"pe.rows={rows}: the table must cover the training length.\nTry pe.rows={shape.train_length} or more.",
        )
        self.max_positions = rows
        self.rows = nn.Parameter(torch.empty(rows, shape.width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.rows, 0, 0.02, generator=generator)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        return x + self.rows[context.query_positions].to(x.dtype)
