import torch
from torch import Tensor

from ..pe.base import DistanceBias


class Stretched(DistanceBias):
    """A bias over distance read at distance / factor, linearly between two whole distances."""

    def __init__(self, bias: DistanceBias, factor: float):
        super().__init__(bias.shape)
        self.bias_of, self.factor = bias, factor

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        at = torch.arange(n, dtype=torch.float64) / self.factor
        below = at.long()
        table = self.bias_of.table(int(below[-1]) + 2, device)
        below, share = below.to(table.device), (at - below).float().to(table.device)
        return torch.lerp(table[:, below], table[:, below + 1], share)
