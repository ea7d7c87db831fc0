from ..pe.base import PositionEncoding
from ..pe.logn import Logn as Scaling
from ..shape import Shape
from .beside import Beside


class Logn(Beside):
    """Log-n scaling (model/pe/logn.py) of the logits of any encoding; nothing changes within the training length.

    It complements another extension (chain it with rerope or ntk) and does little alone.
    """

    def __init__(self, shape: Shape, *, length: int | None):
        super().__init__(shape)
        self.length = length

    def part(self) -> PositionEncoding:
        return Scaling(self.shape, length=self.length)
