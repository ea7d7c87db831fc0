from ..pe.alibi import Alibi
from ..pe.base import PositionEncoding
from ..shape import Shape
from .base import Extension, checked_factor
from .interpolated_bias import InterpolatedBias


class AlibiRescale(Extension):
    """ALiBi with its slopes divided by s: the bias of the farthest key is that of the farthest key in training.

    Each head of ALiBi attends to a fixed number of recent tokens. Here that number is s times as large, and perplexity
    no longer stays flat at longer inputs.

    factor: s; null is the length of the evaluation divided by that of the training.
    """

    scope = "alibi"

    def __init__(self, shape: Shape, *, factor: float | None):
        super().__init__(shape)
        self.factor = checked_factor(factor)

    def applies_to(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Alibi)

    def apply(self, encoding: Alibi, length: int) -> InterpolatedBias:
        return InterpolatedBias(encoding, self.ratio(self.factor, length))
