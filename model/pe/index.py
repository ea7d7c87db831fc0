import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding


class Index(PositionEncoding):
    """The naive integer code: x_t + t * w with a learned direction w (D).

    Didactic. It is unbounded: past the training length its magnitudes are new to the model, and it soon dominates the
    embedding of the token.
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.direction = nn.Parameter(torch.empty(shape.width))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.direction, 0, 0.02, generator=generator)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        t = context.query_positions.float()[..., None]
        return x + (t * self.direction.float()).to(x.dtype)
