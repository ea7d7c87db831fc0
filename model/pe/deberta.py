import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, Context, PositionEncoding, require, scaled_scores


class Deberta(PositionEncoding):
    """Disentangled attention (2006.03654), causal: content to content, content to position and position to content.

        logits (q_i k_j + q_i K_(i-j) + k_j Q_(i-j)) / sqrt(3d),     K = P W_K, Q = P W_Q

    Both tables are read at the distance i - j, as in the released code (the paper's third term has the distance j - i,
    which would give the query table rows of its own). Keys are never in the future, so P has rows for the distances 0
    ... size - 1; longer distances share the last one. Each layer has its own P, W_K and W_Q (DeBERTa shares P, behind a
    normalisation).

    size: null is half of the training length, so that many pairs train the last row.
    """

    relative = True
    per_layer = True
    integer_positions = True

    def __init__(self, shape: Shape, *, size: int | None):
        super().__init__(shape)
        require(size is None or size >= 1, f"pe.size={size}: expected 1 or more distances.\nTry pe.size=null")
        size = max(1, shape.train_length // 2) if size is None else size
        self.rows = nn.Parameter(torch.empty(size, shape.width))
        self.w_k = nn.Parameter(torch.empty(shape.width, shape.heads, shape.head_dim))
        self.w_q = nn.Parameter(torch.empty(shape.width, shape.heads, shape.head_dim))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.rows, 0, 1.0, generator=generator)
        nn.init.normal_(self.w_k, 0, self.shape.width**-0.5, generator=generator)
        nn.init.normal_(self.w_q, 0, self.shape.width**-0.5, generator=generator)

    def prepare(self, context: Context) -> tuple[Tensor, Tensor]:
        """K and Q, float32 (H, d, size)."""
        k, q = (torch.einsum("nw,whd->hdn", self.rows.float(), w.float()) for w in (self.w_k, self.w_q))
        return k, q

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        to_position, to_content = (x.to(q.dtype) for x in block.prepared)
        scale = scale * 3**-0.5
        by_query = block.gather_by_distance((q @ to_position) * scale)
        by_key = (k @ to_content) * scale  # (B, H, tk, size)
        index = block.distance_index(by_key.shape[-1]).mT[:, None].expand(*by_key.shape[:3], -1)
        return scaled_scores(q, k, scale) + by_query + by_key.gather(-1, index).mT
