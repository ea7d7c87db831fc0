import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, PositionEncoding, require, scaled_scores


class Shaw(PositionEncoding):
    """Relative position representations (1803.02155): a learned vector per distance, shared by the heads of a layer.

        logits q_i (k_j + a_min(i-j, max_distance)) / sqrt(d),     output sum_j p_ij (v_j + b_min(i-j, max_distance))

    max_distance: keys at this distance and beyond share a vector; the paper finds no gain beyond about 4.
    values: use b as well. The paper does, and finds the vectors of the keys alone equally good.
    """

    relative = True
    per_layer = True
    integer_positions = True

    def __init__(self, shape: Shape, *, max_distance: int, values: bool):
        super().__init__(shape)
        require(max_distance >= 1, f"pe.max_distance={max_distance}: expected 1 or more.\nTry pe.max_distance=16")
        self.a = nn.Parameter(torch.empty(max_distance + 1, shape.head_dim))
        self.b = nn.Parameter(torch.empty(max_distance + 1, shape.head_dim)) if values else None

    def reset(self, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, self.shape.head_dim**-0.5, generator=generator)

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        return scaled_scores(q, k, scale) + block.gather_by_distance((q @ self.a.to(q.dtype).T) * scale)

    def values(self, weights: Tensor, v: Tensor, block: Block) -> Tensor:
        out = weights @ v
        if self.b is None:
            return out
        distance = block.distance_index(self.b.shape[0])[:, None].expand_as(weights)
        share = weights.new_zeros(*weights.shape[:3], self.b.shape[0]).scatter_add(-1, distance, weights)
        return out + share.to(v.dtype) @ self.b.to(v.dtype)
