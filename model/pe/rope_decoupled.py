import math
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, TokenState, require
from .common.rotation import rotate
from .rope import Rope


class RopeDecoupled(Rope):
    """Decoupled RoPE (2405.04434, DeepSeek-V2): additional channels are rotated, the head's own ones are not.

    Logits (<q, k> + <R_i q', R_j k'>) / sqrt(d + channels), where q' = W_q' x is computed for every head and k' = W_k'
    x once for all heads. Without the compression of keys and values, which is the paper's reason for it. The KV cache
    also holds q' and k'.

    channels: additional channels per head.
    """

    cacheable_keys = is_pure_rotation = False
    per_layer = True

    def __init__(self, shape: Shape, *, base: float, layout: Literal["half", "interleaved"], channels: int):
        require(
            channels >= 2 and channels % 2 == 0,
            f"pe.channels={channels}: channels come in pairs.\nTry pe.channels={max(2, channels + channels % 2)}",
        )
        super().__init__(replace(shape, head_dim=channels), base=base, layout=layout, partial=1.0)
        self.shape = shape
        self.query = nn.Linear(shape.width, shape.heads * channels, bias=False)
        self.key = nn.Linear(shape.width, channels, bias=False)

    def reset(self, generator: torch.Generator) -> None:
        for linear in (self.query, self.key):
            nn.init.normal_(linear.weight, 0, self.shape.width**-0.5, generator=generator)

    def token_state(self, x: Tensor) -> TokenState:
        return {"query": self.query(x), "key": self.key(x)}

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        extra = state["query"][:, -context.queries :].unflatten(-1, (self.shape.heads, -1)).transpose(1, 2)
        extra = rotate(extra, prepared.last(context.queries), self.layout)
        # The kernels divide by sqrt(d), the width without the extra channels.
        return torch.cat((q, extra.to(q.dtype)), -1) * math.sqrt(q.shape[-1] / (q.shape[-1] + extra.shape[-1]))

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        extra = rotate(state["key"][:, None], prepared, self.layout)
        return torch.cat((k, extra.to(k.dtype).expand(-1, k.shape[1], -1, -1)), -1)
