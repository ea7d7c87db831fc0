import math
from typing import Any

from torch import Tensor

from ..registry import Part
from ..shape import Shape
from .base import require
from .common.regions import Regions
from .window import keys


class SelfExtend(Regions):
    """SelfExtend (2401.01325): exact distances within the window, distances between groups of positions beyond it.

        i - j < W:  i - j           else:  floor(i / G) - floor(j / G) + W - floor(W / G)

    The released code subtracts W / G without rounding, which differs if G does not divide W.

    window: W, keys, or a share of the training length if below 1.  group: G, number of positions per group.
    """

    integer_positions = True

    def __init__(self, shape: Shape, *, rope: Part, window: int | float | None, group: int):
        super().__init__(shape, rope=rope)
        self.window, self.group = keys(window, shape, "pe.window"), group
        require(self.window >= 1, f"pe.window={window}: distances are exact below the window.\nTry pe.window=0.25")
        require(group >= 1, f"pe.group={group}: the number of positions per group is 1 or more.\nTry pe.group=8")

    @classmethod
    def options_for_length(cls, shape: Shape, options: dict[str, Any], length: int) -> dict[str, Any]:
        """Set a null `group` to the smallest that keeps all distances within half of the training length.

        The paper found that to work. Nothing is grouped up to the training length.
        """
        if options["group"] is not None:
            return options
        window = keys(options["window"], shape, "pe.window")
        available = max(1, shape.train_length // 2 - window)
        return options | {"group": 1 if length <= shape.train_length else math.ceil((length - window) / available)}

    def query_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, positions // self.group + (self.window - self.window // self.group)]

    def key_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, positions // self.group]

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return query_positions - key_positions >= self.window
