import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, Context, PositionEncoding, scaled_scores
from .sinusoidal import sinusoids


class TransformerXl(PositionEncoding):
    """Transformer-XL's relative positions (1901.02860), without its recurrence over segments.

        logits ((q_i + u) k_j + (q_i + v) W_R R_(i-j)) / sqrt(d)

    R is the sinusoidal code of the distance (all sines, then all cosines, as released). W_R (D, H d), u and v (H, d)
    are learned, one set per layer (released models share u and v). Codes of distances past the training length are new
    to the model.
    """

    relative = True
    per_layer = True
    integer_positions = True

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.w_r = nn.Parameter(torch.empty(shape.width, shape.heads, shape.head_dim))
        self.u = nn.Parameter(torch.empty(shape.heads, shape.head_dim))
        self.v = nn.Parameter(torch.empty(shape.heads, shape.head_dim))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.w_r, 0, self.shape.width**-0.5, generator=generator)
        nn.init.normal_(self.u, 0, 0.02, generator=generator)
        nn.init.normal_(self.v, 0, 0.02, generator=generator)

    def prepare(self, context: Context) -> Tensor:
        """W_R R of every distance, float32 (H, d, n)."""
        code = sinusoids(torch.arange(context.span, device=self.w_r.device), self.shape.width)
        return torch.einsum("nw,whd->hdn", code, self.w_r.float())

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        u, v = (x.to(q.dtype)[:, None] for x in (self.u, self.v))
        by_distance = (q + v) @ block.prepared.to(q.dtype)  # (B, H, tq, n)
        return scaled_scores(q + u, k, scale) + block.gather_by_distance(by_distance * scale)
