from ..pe.alibi import Alibi
from ..pe.base import PositionEncoding
from ..shape import Shape
from .base import Extension, longer
from .stretched import Stretched


class AlibiRescale(Extension):
    """ALiBi with its slopes divided by s, so that the farthest key of the longer sequence is as far as in training.

    ALiBi's heads look back a fixed number of tokens each; this makes it s times as many and gives up the flat curve.

    factor: s; null is the length of the evaluation divided by that of the training.
    """

    applies_to = "alibi"

    def __init__(self, shape: Shape, *, factor: float | None):
        super().__init__(shape)
        self.factor = longer(factor)

    def fits(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Alibi)

    def apply(self, encoding: Alibi, length: int) -> Stretched:
        return Stretched(encoding, self.ratio(self.factor, length))
