from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require
from .common.rotation import Rotation, rotate
from .common.running import running_sum


class SelectiveRope(PositionEncoding):
    """RoPE with learned steps between tokens, in the style of Selective RoPE (2511.17388).

    Pair c of token i is rotated by base^(-2c/d) * sum over t = 0 ... i of 2 sigmoid(w_c x_t + b_c). A step is about 1
    at initialisation, which is RoPE, and stays between 0 (the token is not counted) and 2. This is a simple
    parametrisation of data-dependent rotation, not a reproduction: those of the papers differ.

    clock: `pair`, each pair of channels of a key head has its own steps; `head`, all pairs of a head share them, and
    the learned quantity is a contextual position.
    """

    relative = True
    per_layer = True

    def __init__(self, shape: Shape, *, base: float, clock: Literal["pair", "head"]):
        super().__init__(shape)
        require(base > 0, f"pe.base={base}: frequencies are powers of the base.\nTry pe.base=10000")
        require(
            shape.head_dim % 2 == 0,
            f"model.width={shape.width}: heads of {shape.head_dim} channels cannot be rotated in pairs.\n"
            f"Try model.width={shape.heads * (shape.head_dim + 1)}",
        )
        self.base = base
        self.clocks = shape.head_dim // 2 if clock == "pair" else 1
        self.linear = nn.Linear(shape.width, shape.kv_heads * self.clocks)

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.linear.weight, 0, 0.02, generator=generator)
        nn.init.zeros_(self.linear.bias)

    def token_state(self, x: Tensor) -> TokenState:
        with torch.autocast(x.device.type, enabled=False):
            z = F.linear(x.float(), self.linear.weight.float(), self.linear.bias.float())
        return {"step": 2 * z.sigmoid().unflatten(-1, (self.shape.kv_heads, self.clocks))}  # (B, T, H_kv, d/2|1)

    def rotation(self, state: TokenState, context: Context) -> Rotation:
        """cos and sin of every token, float32 (B, H_kv, T, d/2)."""
        clock = running_sum(state["step"], context).transpose(1, 2)
        exponent = torch.arange(0, self.shape.head_dim, 2, device=clock.device, dtype=torch.float64)
        angle = clock * self.base ** (-exponent / self.shape.head_dim)
        device = state["step"].device
        return Rotation(angle.cos().float().to(device), angle.sin().float().to(device))

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        by_key_head = self.rotation(state, context).last(context.queries)
        groups = self.shape.heads // self.shape.kv_heads
        cos, sin = (x.repeat_interleave(groups, dim=1) for x in (by_key_head.cos, by_key_head.sin))
        return rotate(q, Rotation(cos, sin), "half")

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return rotate(k, self.rotation(state, context), "half")
