from typing import Any, cast

from ..pe.rerope import Rerope as Scheme
from ..pe.rope import Rope
from ..shape import Shape
from .regions import OverRope


class Rerope(OverRope):
    """ReRoPE on a trained model: distance min(i - j, window). See model/pe/rerope.py.

    window: a quarter to half of the training length works best; keys, or a share of the training length if below 1.
    """

    def __init__(self, shape: Shape, *, window: int | float | None):
        super().__init__(shape)
        self.window = window

    def regions(self, rope: Rope, length: int) -> Scheme:
        return Scheme(self.shape, rope=cast(Any, rope), window=self.window)
