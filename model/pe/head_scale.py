from typing import Any

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require


class HeadScale(PositionEncoding):
    """Head-wise attention scale (2404.12224): logits times a learned number per head and layer.

    It does not distinguish positions: alone it is NoPE with a scale. The paper tunes these numbers, and nothing else,
    of a model without positions at a longer length, so that its attention does not spread out over more keys.

    initial: initial value of the numbers; 1 changes nothing.
    """

    relative = True
    per_layer = True

    def __init__(self, shape: Shape, *, initial: float):
        super().__init__(shape)
        require(
            initial > 0,
            f"pe.initial={initial}: a scale is positive; a negative one reverses attention.\nTry pe.initial=1",
        )
        self.initial = initial
        self.scale = nn.Parameter(torch.empty(shape.heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.scale, self.initial)

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return (q * self.scale.float()[:, None, None]).to(q.dtype)
