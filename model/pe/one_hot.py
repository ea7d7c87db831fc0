import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, require


class OneHot(PositionEncoding):
    """One-hot positions through a linear map: x_t + W e_t, W (D, size).

    Didactic. It has no notion of distance and no code beyond `size` (null: the training length). W e_t is a column of
    W, so this is the learned absolute encoding in another notation; a test verifies that the two are equal.
    """

    def __init__(self, shape: Shape, *, size: int | None):
        super().__init__(shape)
        size = shape.train_length if size is None else size
        require(
            size >= shape.train_length,
            f"pe.size={size}: the code must cover the training length.\nTry pe.size={shape.train_length} or more.",
        )
        self.max_positions = size
        self.weight = nn.Parameter(torch.empty(shape.width, size))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, 0, 0.02, generator=generator)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        code = F.one_hot(context.query_positions, self.weight.shape[1]).to(self.weight.dtype)
        return x + F.linear(code, self.weight).to(x.dtype)
