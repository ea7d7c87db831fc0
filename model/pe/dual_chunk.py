import torch
from torch import Tensor

from ..registry import Part
from ..shape import Shape
from .base import require
from .common.regions import Regions
from .window import keys


class DualChunk(Regions):
    """Dual chunk attention (2402.17463): positions in chunks of s = size - window; keys are at j mod s, and queries at

        i mod s                       for keys of the same chunk        exact distances
        min(i mod s + s, size)        for keys of the previous chunk    exact up to the window
        min(2s - 1, size)             for keys of earlier chunks        one position for all

    Without the factor 0.05 ln s + 1 of the released code, which the paper's results do not use.

    size: largest distance, keys or a share of the training length (3/4 in the paper's code).
    window: distances that are exact across the border of two chunks, at least (1/8).
    """

    integer_positions = True

    def __init__(self, shape: Shape, *, rope: Part, size: int | float | None, window: int | float | None):
        super().__init__(shape, rope=rope)
        self.size, self.window = keys(size, shape), keys(window, shape, "pe.window")
        require(
            0 < self.window < self.size,
            f"pe.window={window}: {self.window} keys, and must be below pe.size={size}, {self.size} keys.\n"
            f"Try pe.size=0.75 pe.window=0.125",
        )
        self.chunk = self.size - self.window

    def query_maps(self, positions: Tensor) -> list[Tensor]:
        inside = positions % self.chunk
        far = torch.full_like(positions, min(2 * self.chunk - 1, self.size))
        return [inside, (inside + self.chunk).clamp(max=self.size), far]

    def key_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions % self.chunk]

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return (query_positions // self.chunk - key_positions // self.chunk).clamp(0, 2)
