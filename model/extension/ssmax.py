from ..pe.base import PositionEncoding
from ..pe.ssmax import Ssmax as Scaling
from ..shape import Shape
from .beside import Beside


class Ssmax(Beside):
    """Scalable softmax (model/pe/ssmax.py) beside any encoding, a learned number a head and layer: for fine-tuning.

    Untrained it is log-n scaling that also acts within the training length.
    """

    def __init__(self, shape: Shape, *, initial: float | None):
        super().__init__(shape)
        self.initial = initial

    def part(self) -> PositionEncoding:
        return Scaling(self.shape, initial=self.initial)
