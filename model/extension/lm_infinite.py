from typing import Any, cast

from ..pe.lm_infinite import LmInfinite as Scheme
from ..pe.rope import Rope
from ..shape import Shape
from .regions import OverRope


class LmInfinite(OverRope):
    """LM-Infinite on a trained model: the last keys and the first ones. See model/pe/lm_infinite.py."""

    def __init__(self, shape: Shape, *, window: int | float | None, sinks: int):
        super().__init__(shape)
        self.window, self.sinks = window, sinks

    def regions(self, rope: Rope, length: int) -> Scheme:
        return Scheme(self.shape, rope=cast(Any, rope), window=self.window, sinks=self.sinks)
