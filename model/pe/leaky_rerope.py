from typing import Any

from torch import Tensor

from ..precision import exact
from ..registry import Part
from ..shape import Shape
from .base import require
from .common.regions import Regions
from .window import keys


class LeakyRerope(Regions):
    """Leaky ReRoPE (Su 2023, kexue.fm/archives/9708): past the window w distances are w + (i - j - w) / factor.

    No angle is new if the longest distance stays below the training length L: factor (L - w) above T - w.

    window: w, keys, or a share of the training length if below 1.
    factor: divisor of distances past the window.
    """

    relative = True

    def __init__(self, shape: Shape, *, rope: Part, window: int | float | None, factor: float):
        super().__init__(shape, rope=rope)
        self.window, self.factor = keys(window, shape, "pe.window"), factor
        require(self.window >= 1, f"pe.window={window}: distances are exact below the window.\nTry pe.window=0.5")
        require(factor >= 1, f"pe.factor={factor}: distances past the window grow more slowly.\nTry pe.factor=16")

    @classmethod
    def options_for_length(cls, shape: Shape, options: dict[str, Any], length: int) -> dict[str, Any]:
        """Set a null `factor` to the smallest that keeps all distances below the training length."""
        if options["factor"] is not None:
            return options
        window, last = keys(options["window"], shape, "pe.window"), shape.train_length - 1
        return options | {"factor": max(1.0, (length - 1 - window) / max(1, last - window))}

    def query_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, exact(positions) / self.factor + self.window * (1 - 1 / self.factor)]

    def key_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, exact(positions) / self.factor]

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return query_positions - key_positions >= self.window
