from typing import Any, cast

from ..pe.rope import Rope
from ..pe.streaming import Streaming as Scheme
from ..shape import Shape
from .regions import OverRope


class Streaming(OverRope):
    """StreamingLLM on a trained model: the last keys and the first ones, positions counted in the cache.

    See model/pe/streaming.py.
    """

    def __init__(self, shape: Shape, *, window: int | float | None, sinks: int):
        super().__init__(shape)
        self.window, self.sinks = window, sinks

    def regions(self, rope: Rope, length: int) -> Scheme:
        return Scheme(self.shape, rope=cast(Any, rope), window=self.window, sinks=self.sinks)
