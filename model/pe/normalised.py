import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding


class Normalised(PositionEncoding):
    """The index scaled to [0, 1]: x_t + t / (T - 1) * w, with T the number of tokens so far and w (D) learned.

    A counter-example, included because tutorials begin with it. It needs the total length T in advance, which a causal
    language model does not have: each new token changes the code of every earlier one. So the outputs of a prefix
    depend on later tokens (`length_dependent`), the logits of a long text differ from those of its prefixes, and cached
    layers are stale. The meaning of one step also depends on the length.
    """

    length_dependent = True

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.direction = nn.Parameter(torch.empty(shape.width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.direction, 0, 1.0, generator=generator)  # the code itself is at most 1

    def embed(self, x: Tensor, context: Context) -> Tensor:
        t = context.query_positions.float()[..., None] / max(context.total_length - 1, 1)
        return x + (t * self.direction.float()).to(x.dtype)
