from ..pe.base import PositionEncoding
from ..pe.head_scale import HeadScale as Scaling
from ..shape import Shape
from .beside import Beside


class HeadScale(Beside):
    """A learned attention scale a head (2404.12224, model/pe/head_scale.py) beside any encoding: for fine-tuning.

    initial: of the numbers; above 1 attention is sharper from the start.
    """

    def __init__(self, shape: Shape, *, initial: float):
        super().__init__(shape)
        self.initial = initial

    def part(self) -> PositionEncoding:
        return Scaling(self.shape, initial=self.initial)
