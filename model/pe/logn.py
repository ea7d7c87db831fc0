import math
from typing import Any

from torch import Tensor

from ..precision import exact
from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require


class Logn(PositionEncoding):
    """Log-n scaling (2202.12172; Su 2021; Qwen-1): logits times max(1, ln n / ln L) for a query that sees n keys.

    Attention spreads out as the number of keys grows; the scaling keeps its entropy constant. Nothing changes within L
    tokens, so it can be added to a trained model. It does not distinguish positions: alone it is NoPE with a scale, and
    it is mostly a part of a composition.

    n is the position + 1.  length: L; null is the training length.
    """

    def __init__(self, shape: Shape, *, length: int | None):
        super().__init__(shape)
        self.length = shape.train_length if length is None else length
        require(self.length >= 2, f"pe.length={self.length}: logits are divided by ln L.\nTry pe.length=128")

    def prepare(self, context: Context) -> Tensor:
        n = (exact(context.query_positions) + 1).clamp(min=1)  # some plans begin below 0
        factor = (n.log() / math.log(self.length)).clamp(min=1).float().to(context.positions.device)
        return factor[:, None, :, None]  # (B|1, 1, Tq, 1)

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return (q * prepared).to(q.dtype)
