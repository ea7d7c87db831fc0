from typing import Any, cast

from ..pe.dual_chunk import DualChunk as Scheme
from ..pe.rope import Rope
from ..shape import Shape
from .regions import OverRope


class DualChunk(OverRope):
    """Dual chunk attention on a trained model. See model/pe/dual_chunk.py."""

    def __init__(self, shape: Shape, *, size: int | float | None, window: int | float | None):
        super().__init__(shape)
        self.size, self.window = size, window

    def regions(self, rope: Rope, length: int) -> Scheme:
        return Scheme(self.shape, rope=cast(Any, rope), size=self.size, window=self.window)
