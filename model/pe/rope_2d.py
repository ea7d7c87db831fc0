from typing import Any

import torch
from torch import Tensor

from ..shape import Shape
from .base import Context, TokenState, require
from .common.rotation import Rotation, angles, rotate
from .rope import Rope


class Rope2d(Rope):
    """Two-dimensional rotary positions (ChatGLM-6B, 2210.02414): one position id for each half of the head.

    A plan may return two ids per token, positions (B|1, T, 2). In ChatGLM they are the position and the index within
    the generated block, which is 0 in the prompt. With one id per token the second is 0 and its half is not rotated.
    Pairs are (c, c + d/4) within a half, and exponents count over a half.
    """

    cacheable_keys = is_pure_rotation = False
    position_axes = (0, 1)

    def __init__(self, shape: Shape, *, base: float):
        require(
            shape.head_dim % 4 == 0,
            f"model.width / model.heads = {shape.head_dim}: two halves of pairs need a multiple of 4.\n"
            f"Try model.width={shape.heads * max(4, shape.head_dim // 4 * 4)}",
        )
        super().__init__(shape, base=base, layout="half", partial=0.5)

    def prepare(self, context: Context) -> list[Rotation]:
        ids = context.positions
        first, second = ids.unbind(-1) if ids.dim() == 3 else (ids, torch.zeros_like(ids))
        return [angles(each, *self.scaled(context)) for each in (first, second)]

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return self._rotate(q, [each.last(context.queries) for each in prepared])

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return self._rotate(k, prepared)

    def _rotate(self, x: Tensor, rotations: list[Rotation]) -> Tensor:
        halves = zip(x.chunk(2, -1), rotations, strict=True)
        return torch.cat([rotate(half, rotation, self.layout) for half, rotation in halves], -1)
