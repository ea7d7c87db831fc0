from typing import Literal

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, distances, require


def slopes(heads: int) -> list[float]:
    """m_h = 2^(-8h/H) if H is a power of two, else those of the next lower power and every other one of the next."""
    if heads & (heads - 1) == 0:
        return [2 ** (-8 * h / heads) for h in range(1, heads + 1)]
    lower = 2 ** (heads.bit_length() - 1)
    return slopes(lower) + slopes(2 * lower)[0::2][: heads - lower]


class Alibi(DistanceBias):
    """Attention with linear biases (2108.12409): -m_h * (i - j).

    slopes: `fixed` is the paper's choice. `learned` starts there and learns ln m_h, so that slopes stay positive; they
    are shared by the layers.
    share: share of the heads that have a bias. These are the first ones, with the slopes of a model of so many heads.
    The others have none.
    """

    def __init__(self, shape: Shape, *, slopes: Literal["fixed", "learned"], share: float):
        super().__init__(shape)
        self.biased = round(share * shape.heads)
        require(
            0 < share <= 1 and self.biased > 0 and abs(self.biased - share * shape.heads) < 0.01,
            f"pe.share={share} of {shape.heads} heads is not a whole number of heads from 1 to {shape.heads}.\n"
            f"Try pe.share={max(1, min(self.biased, shape.heads)) / shape.heads:g}",
        )
        self.log_slopes = nn.Parameter(torch.empty(self.biased)) if slopes == "learned" else None

    def reset(self, generator: torch.Generator) -> None:
        if self.log_slopes is not None:
            with torch.no_grad():
                self.log_slopes.copy_(torch.tensor(slopes(self.biased)).log())

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        if self.log_slopes is None:
            m = torch.tensor(slopes(self.biased), device=device, dtype=torch.float32)
        else:
            m = self.log_slopes.float().exp()
        m = torch.cat([m, m.new_zeros(self.shape.heads - self.biased)])
        return -m[:, None] * distances(n, m.device)
