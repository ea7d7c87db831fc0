import torch
from torch import Tensor

from ..registry import Part
from ..shape import Shape
from .base import require
from .common.regions import Regions
from .window import keys


class Rerope(Regions):
    """ReRoPE (Su 2023, kexue.fm/archives/9708): distance min(i - j, window), so that no angle is new at any length.

    With a trained model a window of a quarter to half of the training length works best.

    window: largest distance; keys, or a share of the training length if below 1.
    """

    relative = True

    def __init__(self, shape: Shape, *, rope: Part, window: int | float | None):
        super().__init__(shape, rope=rope)
        self.window = keys(window, shape, "pe.window")
        require(self.window >= 1, f"pe.window={window}: distances are counted up to the window.\nTry pe.window=0.5")

    def query_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, torch.full_like(positions, self.window)]

    def key_maps(self, positions: Tensor) -> list[Tensor]:
        return [positions, torch.zeros_like(positions)]

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return query_positions - key_positions >= self.window
