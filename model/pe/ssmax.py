import math
from typing import Any

import torch
from torch import Tensor, nn

from ..precision import exact
from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require


class Ssmax(PositionEncoding):
    """Scalable softmax (2501.19399): logits times s ln n for a query that sees n keys.

    s is learned, one per head and layer. The softmax of s ln n z is n^(s z) / sum n^(s z): it stays as sharp with many
    keys as with few. Mostly a part of a composition; alone it is NoPE with a scale.

    n is the position + 1.  initial: of s; null is 1 / ln L, which changes nothing at the training length L.
    """

    per_layer = True

    def __init__(self, shape: Shape, *, initial: float | None):
        super().__init__(shape)
        require(shape.train_length >= 2, f"train.length={shape.train_length}: ln L is 0.\nTry train.length=128")
        self.initial = 1 / math.log(shape.train_length) if initial is None else initial
        self.s = nn.Parameter(torch.empty(shape.heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.s, self.initial)

    def prepare(self, context: Context) -> Tensor:
        logarithm = exact(context.query_positions).clamp(min=0).log1p().float().to(context.positions.device)
        return logarithm[:, None, :, None]  # (B|1, 1, Tq, 1)

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return (q * (self.s.float()[:, None, None] * prepared)).to(q.dtype)
