import torch
from torch import Tensor

from ..registry import Part
from ..shape import Shape
from .base import require
from .common.regions import Regions
from .window import keys


class Streaming(Regions):
    """StreamingLLM (2309.17453): a query sees the first `sinks` positions and the last `window`, itself included.

    Positions count within that cache: every query from position sinks + window - 1 on is at sinks + window - 1. So a
    key in the window is at its distance, and sink j at min(i, sinks + window - 1) - j. All queries are computed at
    once; the paper computes them token by token with a cache that evicts. It does not extend the context that the model
    can use.

    window: keys, or a share of the training length if below 1; null is the training length minus the sinks.
    """

    def __init__(self, shape: Shape, *, rope: Part, window: int | float | None, sinks: int):
        super().__init__(shape, rope=rope)
        self.window = shape.train_length - sinks if window is None else keys(window, shape, "pe.window")
        self.sinks = sinks
        require(
            sinks >= 0,
            f"pe.sinks={sinks}: the number of first positions that stay visible is 0 or more.\nTry pe.sinks=4",
        )
        require(
            self.window >= 1,
            f"pe.window={window} with pe.sinks={sinks} and train.length={shape.train_length}: "
            f"{self.window} keys are left for the window.\nTry pe.sinks=0",
        )

    def query_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, positions.clamp(max=self.sinks + self.window - 1)]

    def key_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions]

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        far = (query_positions - key_positions >= self.window).long()
        return torch.where(key_positions < self.sinks, far, -far)

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return (query_positions - key_positions < self.window) | (key_positions < self.sinks)
