import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, require


class Toeplitz(DistanceBias):
    """The simplest learned relative bias: W[min(i - j, max_distance), h], shared by the layers.

    A baseline for T5's buckets and for the curves of KERPLE and FIRE. Drawn from N(0, 1/D) as in T5.

    max_distance: keys at this distance and beyond share the last number. null is half of the training length: the last
    number serves every longer distance, so many pairs should train it.
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
