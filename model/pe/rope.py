from typing import Any, Literal

import torch
from torch import Tensor

from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require
from .common.rotation import Scaling, angles, frequencies, rotate


class Rope(PositionEncoding):
    """Rotary position embedding (2104.09864): <R_i q, R_j k> = <q, R_(j-i) k>.

    R_t rotates pair c by the angle t * base^(-2c/r).

    layout: the channels of a pair. `half`: (c, c + r/2), as in GPT-NeoX and transformers' Llama; `interleaved`: (2c,
    2c+1), as in GPT-J, Meta's Llama and GLM. They differ by a permutation of the rows of W_q and W_k.
    partial: share of the head's channels that are rotated, the first r = partial * d; exponents use r (GPT-NeoX,
    GLM-4).
    """

    relative = True
    cacheable_keys = True
    is_pure_rotation = True  # no other hook acts; region schemes need that

    def __init__(self, shape: Shape, *, base: float, layout: Literal["half", "interleaved"], partial: float):
        super().__init__(shape)
        require(base > 0, f"pe.base={base}: frequencies are powers of the base.\nTry pe.base=10000")
        require(0 < partial <= 1, f"pe.partial={partial}: expected a share above 0, at most 1.\nTry pe.partial=0.5")
        rotated = partial * shape.head_dim
        require(
            rotated == int(rotated) and rotated % 2 == 0,
            f"pe.partial={partial} rotates {rotated:g} of a head's {shape.head_dim} channels, not a number of pairs.\n"
            f"Try an even number of channels: model.width={2 * shape.heads * max(1, shape.head_dim // 2)} pe.partial=1",
        )
        self.base, self.layout, self.partial, self.rotated = base, layout, partial, int(rotated)
        self.scaling = Scaling()  # a context extension replaces it on a copy

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """Radians per position of each pair, float64 (r/2,)."""
        return frequencies(self.base, self.rotated, device)

    def scaled(self, context: Context) -> tuple[Tensor, float]:
        """The frequencies after context extension, and the amplitude of cos and sin."""
        return self.scaling(self.frequencies(context.positions.device), context.total_length)

    def prepare(self, context: Context) -> Any:
        return angles(context.positions, *self.scaled(context))

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return rotate(q, prepared.last(context.queries), self.layout)

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return rotate(k, prepared.last(k.shape[2]), self.layout)
