import torch
from torch import Tensor

from ..shape import Shape
from .base import Block, DistanceBias, PositionEncoding, distances, require


class Window(DistanceBias):
    """Sliding-window attention (2004.05150, Mistral): a query sees the last `size` keys, itself included.

    It does not otherwise distinguish positions. It is mostly a part of a composition, and the windowed control of
    evaluations. N layers together still see N * (size - 1) tokens back.

    size: keys, or a share of the training length if below 1; null is the training length.
    """

    def __init__(self, shape: Shape, *, size: int | float | None):
        super().__init__(shape)
        self.size = keys(size, shape)
        require(self.size >= 1, f"pe.size={size}: a window holds at least the query itself.\nTry pe.size=128")

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        distance = distances(n, device)[None]
        return torch.where(distance < self.size, 0.0, float("-inf"))

    def window_size(self) -> int:
        return self.size

    def by_token_index(self) -> PositionEncoding:
        return TokenWindow(self.shape, self.size)


class TokenWindow(PositionEncoding):
    """A window over the last `size` tokens, whatever their positions, for position plans with gaps or fractions."""

    relative = True

    def __init__(self, shape: Shape, size: int):
        super().__init__(shape)
        self.size = size

    def bias(self, block: Block) -> Tensor:
        device = block.context.positions.device
        i = torch.arange(block.rows.start, block.rows.stop, device=device)[:, None]
        j = torch.arange(block.columns.start, block.columns.stop, device=device)
        return torch.where(i - j < self.size, 0.0, float("-inf"))[None, None]

    def window_size(self) -> int:
        return self.size


def keys(size: int | float | None, shape: Shape, option: str = "pe.size") -> int:
    """A number of keys: `size` itself, that share of the training length if below 1, or all of it if null."""
    if size is None:
        return shape.train_length
    share = 0 < size < 1
    require(share or size == int(size), f"{option}={size}: expected whole keys or a share below 1.\nTry {option}=0.5")
    return max(1, round(size * shape.train_length)) if share else int(size)
