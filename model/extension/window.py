import torch
from torch import Tensor

from ..pe.base import Block, PositionEncoding
from ..pe.window import Window as SlidingWindow
from ..positions.base import PositionPlan
from ..shape import Shape
from .beside import Beside


class Window(Beside):
    """The windowed control: attention limited to the last `size` keys, whatever the encoding.

    A scheme that does not beat its own windowed control has shown stability, not use of longer context. Encodings
    with a limit (a learned table) keep it.

    Keys are counted as tokens, also where the position plan leaves gaps.

    size: keys, or a share of the training length if below 1; null is the training length.
    """

    def __init__(self, shape: Shape, *, size: int | float | None):
        super().__init__(shape)
        self.size, self.contiguous = size, True

    def under(self, plan: PositionPlan) -> None:
        self.contiguous = plan.contiguous

    def part(self) -> PositionEncoding:
        return (SlidingWindow if self.contiguous else LastKeys)(self.shape, size=self.size)


class LastKeys(PositionEncoding):
    """A window over the last `size` tokens whatever their positions are, for plans with gaps and fractions."""

    relative = True

    def __init__(self, shape: Shape, *, size: int | float | None):
        super().__init__(shape)
        self.size = SlidingWindow(shape, size=size).size

    def bias(self, block: Block) -> Tensor:
        device = block.context.positions.device
        i = torch.arange(block.rows.start, block.rows.stop, device=device)[:, None]
        j = torch.arange(block.columns.start, block.columns.stop, device=device)
        return torch.where(i - j < self.size, 0.0, float("-inf"))[None, None]

    def window_size(self) -> int:
        return self.size
