import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, require


class Toeplitz(DistanceBias):
    """The plainest learned relative bias: W[min(i - j, max_distance), h], shared by the layers.

    What T5's buckets, KERPLE's and FIRE's curves are to be compared with. Drawn from N(0, 1/D) as in T5.

    max_distance: all keys at least so far away share the last number. null is half of the training length: the last
    number serves every longer distance, and at half the length as many pairs train it as all others on average.
    """

    def __init__(self, shape: Shape, *, max_distance: int | None):
        super().__init__(shape)
        largest = max(1, shape.train_length // 2) if max_distance is None else max_distance
        require(largest >= 1, f"pe.max_distance={max_distance}: expected 1 or more.\nTry pe.max_distance=null")
        self.weight = nn.Parameter(torch.empty(largest + 1, shape.heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, 0, self.shape.width**-0.5, generator=generator)

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        distance = torch.arange(n, device=self.weight.device).clamp(max=self.weight.shape[0] - 1)
        return self.weight.float()[distance].T
