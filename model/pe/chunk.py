from torch import Tensor

from ..shape import Shape
from .base import PositionEncoding, require
from .window import keys


class Chunk(PositionEncoding):
    """Chunked attention (Llama 4): a query sees the keys of its own block of `size` positions.

        allowed(i, j) = floor(i / size) == floor(j / size)

    Cheaper to serve than a sliding window, but the first token of a block sees only itself.

    size: keys, or a share of the training length if below 1; null is the training length.
    """

    integer_positions = True

    def __init__(self, shape: Shape, *, size: int | float | None):
        super().__init__(shape)
        self.size = keys(size, shape)
        require(self.size >= 1, f"pe.size={size}: a block holds at least one key.\nTry pe.size=128")

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return query_positions // self.size == key_positions // self.size

    def window_size(self) -> int:
        return self.size
