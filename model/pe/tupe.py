from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, Context, PositionEncoding, TokenState, require
from .sinusoidal import sinusoids


class Tupe(PositionEncoding):
    """TUPE-A (2006.15595): untied correlations of positions with positions and of words with words.

        (q_i k_j + (p_i U_Q)(p_j U_K)) / sqrt(2d)

    The matrices are shared by the layers. TUPE-R adds T5's bias: a composition of this and `t5`. The paper's untied
    [CLS] token has no counterpart in a decoder.

    code: `learned` is the paper's, one vector per position, normalised to mean 0 and variance 1, with none past the
    training length; `sinusoidal` has no such limit.
    """

    def __init__(self, shape: Shape, *, code: Literal["learned", "sinusoidal"]):
        super().__init__(shape)
        require(
            code == "learned" or shape.width % 2 == 0,
            f"model.width={shape.width}: sines and cosines come in pairs.\nTry model.width={shape.width + 1}",
        )
        self.codes = nn.Parameter(torch.empty(shape.train_length, shape.width)) if code == "learned" else None
        self.max_positions = shape.train_length if code == "learned" else None
        self.u_q = nn.Parameter(torch.empty(shape.width, shape.heads, shape.head_dim))
        self.u_k = nn.Parameter(torch.empty(shape.width, shape.heads, shape.head_dim))

    def reset(self, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, self.shape.width**-0.5, generator=generator)

    def prepare(self, context: Context) -> tuple[Tensor, Tensor]:
        """p U_Q and p U_K of all positions, float32 (B|1, H, T, d)."""
        if self.codes is None:
            p = sinusoids(context.positions, self.shape.width)
        else:
            p = F.layer_norm(self.codes.float(), (self.shape.width,))[context.positions]
        q, k = (torch.einsum("btw,whd->bhtd", p, u.float()) for u in (self.u_q, self.u_k))
        return q, k

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return q * 2**-0.5

    def bias(self, block: Block) -> Tensor:
        q, k = block.prepared
        with torch.autocast(q.device.type, enabled=False):
            return q[:, :, block.rows] @ k[:, :, block.columns].mT * (2 * self.shape.head_dim) ** -0.5
