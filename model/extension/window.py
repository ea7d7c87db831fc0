from ..pe.base import PositionEncoding
from ..pe.window import Window as SlidingWindow
from ..shape import Shape
from .beside import Beside


class Window(Beside):
    """The windowed control: attention limited to the last `size` keys, whatever the encoding.

    A scheme that does not beat its own windowed control has shown stability, not use of longer context. Encodings with a
    limit (a learned table) keep it.

    size: keys, or a share of the training length if below 1; null is the training length.
    """

    def __init__(self, shape: Shape, *, size: int | float | None):
        super().__init__(shape)
        self.size = size

    def part(self) -> PositionEncoding:
        return SlidingWindow(self.shape, size=self.size)
