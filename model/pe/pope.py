import math
from typing import Any

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require
from .common.rotation import Rotation, angles, frequencies


class Pope(PositionEncoding):
    """PoPE, polar coordinates (2509.10534): logits sum_c sp(q_c) sp(k_c) cos((i - j) theta_c - delta_c).

    sp is softplus. The content of a channel is a magnitude and its position is an angle, so the two do not mix as in
    RoPE. Every channel has a frequency, theta_c = base^(-c/d); queries and keys become twice as wide.

    delta: learned, one number per head and channel, shared by the layers; starts at 0 and is clipped to [-2 pi, 0].
    """

    relative = True

    def __init__(self, shape: Shape, *, base: float):
        super().__init__(shape)
        require(base > 0, f"pe.base={base}: frequencies are powers of the base.\nTry pe.base=10000")
        self.base = base
        self.delta = nn.Parameter(torch.empty(shape.heads, shape.head_dim))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.delta)

    def prepare(self, context: Context) -> Rotation:
        positions = context.positions
        return angles(
            positions, frequencies(self.base, self.shape.head_dim, positions.device, step=1)
        )  # (B|1, 1, T, d)

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        at = prepared.last(context.queries)
        delta = self.delta.float().clamp(-2 * math.pi, 0)[:, None]  # (H, 1, d)
        cos, sin = delta.cos(), delta.sin()
        return _polar(q, Rotation(at.cos * cos + at.sin * sin, at.sin * cos - at.cos * sin))

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return _polar(k, prepared)


def _polar(x: Tensor, angle: Rotation) -> Tensor:
    """Vectors of magnitude softplus(x) at these angles, as (x, y): (B, H, T, d) -> (B, H, T, 2d)."""
    size = nn.functional.softplus(x.float())
    return torch.cat((size * angle.cos, size * angle.sin), -1).to(x.dtype)
