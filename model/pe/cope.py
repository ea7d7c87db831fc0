import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, PositionEncoding, require, scaled_scores


class Cope(PositionEncoding):
    """Contextual position encoding (2405.18719): the distance to a key is the sum of the gates from there to the query.

        s_ij = q_i k_j / sqrt(d),   p_ij = sum over t = j ... i of sigmoid(s_it),   logits s_ij + q_i e[p_ij]

    e is interpolated linearly between integers. p is clipped to `size` - 1, the last entry. As in the paper's listing,
    the gates use the scaled logits and q_i e is not scaled. e is shared by the heads of a layer and drawn from N(0,
    0.02^2) (the paper starts at 0).

    Each query needs the gates of all its keys in order. So there is no fused kernel, and decoding costs O(T) per token.
    """

    relative = True
    per_layer = True

    def __init__(self, shape: Shape, *, size: int):
        super().__init__(shape)
        require(size >= 2, f"pe.size={size}: expected 2 or more positions.\nTry pe.size=64")
        self.rows = nn.Parameter(torch.empty(size, shape.head_dim))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.rows, 0, 0.02, generator=generator)

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        logits = scaled_scores(q, k, scale)
        gates = torch.where(block.visible(), logits.float().sigmoid(), 0)
        p = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=self.rows.shape[0] - 1)
        floor = p.detach().long().clamp(max=self.rows.shape[0] - 2)
        by_row = q @ self.rows.to(q.dtype).T  # (B, H, tq, size)
        lower, upper = by_row.gather(-1, floor), by_row.gather(-1, floor + 1)
        return logits + lower + (p - floor) * (upper - lower)
