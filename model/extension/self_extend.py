import math
from typing import Any, cast

from ..pe.rope import Rope
from ..pe.self_extend import SelfExtend as Scheme
from ..pe.window import keys
from ..shape import Shape
from .regions import OverRope


class SelfExtend(OverRope):
    """SelfExtend on a trained model: distances between groups of positions past the window.

    See model/pe/self_extend.py.  group: null is the smallest that keeps all distances of the evaluation within half
    of the training length, which is what the paper found to work.
    """

    def __init__(self, shape: Shape, *, window: int | float | None, group: int | None):
        super().__init__(shape)
        self.window, self.group = window, group

    def regions(self, rope: Rope, length: int) -> Scheme:
        group = self.group
        if group is None:
            window = keys(self.window, self.shape, "extension.window")
            room = max(1, self.shape.train_length // 2 - window)
            group = 1 if length <= self.shape.train_length else math.ceil((length - window) / room)
        return Scheme(self.shape, rope=cast(Any, rope), window=self.window, group=group)
