import torch
from torch import Tensor

from ..registry import Part
from ..shape import Shape
from .base import require
from .rerope import Rerope


class LmInfinite(Rerope):
    """LM-Infinite (2308.16137): a query sees the last `window` keys and the first `sinks`.

    No distance is larger than the window: beyond it all of the first keys are at that distance.

    window: keys, or a share of the training length if below 1; null is the training length.
    sinks: first positions that all queries see, 10 to 100 in the paper.
    """

    relative = False

    def __init__(self, shape: Shape, *, rope: Part, window: int | float | None, sinks: int):
        super().__init__(shape, rope=rope, window=window)
        require(
            sinks >= 0,
            f"pe.sinks={sinks}: the number of first positions that all queries see is 0 or more.\nTry pe.sinks=10",
        )
        self.sinks = sinks

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        far = super().region(query_positions, key_positions).long()
        return torch.where(key_positions < self.sinks, far, -far)

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return (query_positions - key_positions < self.window) | (key_positions < self.sinks)
