import torch
from torch import Tensor

from ..pe.base import DistanceBias


class InterpolatedBias(DistanceBias):
    """A bias over distance, read at distance / factor and interpolated linearly between integer distances."""

    def __init__(self, bias: DistanceBias, factor: float):
        super().__init__(bias.shape)
        self.source, self.factor = bias, factor

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        scaled = torch.arange(n, dtype=torch.float64) / self.factor
        below = scaled.long()
        table = self.source.table(int(below[-1]) + 2, device)
        below, share = below.to(table.device), (scaled - below).float().to(table.device)
        return torch.lerp(table[:, below], table[:, below + 1], share)
