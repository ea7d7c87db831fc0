import torch
from torch import Tensor

from .base import DistanceBias, distances


def slopes(heads: int) -> list[float]:
    """m_h of ALiBi: 2^(-8h/H) for a power of two, else those of the next lower power and every other one of the next."""
    if heads & (heads - 1) == 0:
        return [2 ** (-8 * h / heads) for h in range(1, heads + 1)]
    lower = 2 ** (heads.bit_length() - 1)
    return slopes(lower) + slopes(2 * lower)[0::2][: heads - lower]


class Alibi(DistanceBias):
    """Attention with linear biases (2108.12409): -m_h * (i - j), with fixed slopes m_h."""

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        m = torch.tensor(slopes(self.shape.heads), device=device, dtype=torch.float32)
        return -m[:, None] * distances(n, device)
