from ..pe.base import PositionEncoding
from ..pe.temperature import Temperature as Scaling
from ..shape import Shape
from .beside import Beside


class Temperature(Beside):
    """Llama 4's attention temperature beside any encoding. See model/pe/temperature.py."""

    def __init__(self, shape: Shape, *, step: int | None, slope: float):
        super().__init__(shape)
        self.step, self.slope = step, slope

    def part(self) -> PositionEncoding:
        return Scaling(self.shape, step=self.step, slope=self.slope)
