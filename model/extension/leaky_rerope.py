from typing import Any, cast

from ..pe.leaky_rerope import LeakyRerope as Scheme
from ..pe.rope import Rope
from ..pe.window import keys
from ..shape import Shape
from .regions import OverRope


class LeakyRerope(OverRope):
    """Leaky ReRoPE on a trained model: distances grow `factor` times slower past the window.

    See model/pe/leaky_rerope.py.  factor: null is the smallest that keeps all distances of the evaluation below the
    training length.
    """

    def __init__(self, shape: Shape, *, window: int | float | None, factor: float | None):
        super().__init__(shape)
        self.window, self.factor = window, factor

    def regions(self, rope: Rope, length: int) -> Scheme:
        factor = self.factor
        if factor is None:
            window, last = keys(self.window, self.shape, "extension.window"), self.shape.train_length - 1
            factor = max(1.0, (length - 1 - window) / max(1, last - window))
        return Scheme(self.shape, rope=cast(Any, rope), window=self.window, factor=factor)
