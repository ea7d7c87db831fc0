from typing import Literal

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, distances

FLOOR = 1e-2  # lower bound of both parameters, as in the released code


class Kerple(DistanceBias):
    """Kernelised relative bias (2205.09921), shared by the layers; two positive numbers per head.

    log:    -p * ln(1 + a * (i - j)),  p ~ U(0, 2), a ~ U(0, 1)
    power:  -a * (i - j)^p,            a ~ U(0, 1), p ~ U(0, 2) and at most 2

    The bias is added after the scaling by 1/sqrt(d), as in the released code (in the paper's equation before it).
    """

    def __init__(self, shape: Shape, *, form: Literal["log", "power"]):
        super().__init__(shape)
        self.form = form
        self.p = nn.Parameter(torch.empty(shape.heads))
        self.a = nn.Parameter(torch.empty(shape.heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.uniform_(self.p, 0, 2, generator=generator)
        nn.init.uniform_(self.a, 0, 1, generator=generator)
        with torch.no_grad():  # below the floor a parameter has no gradient: start above it
            self.p.clamp_(min=2 * FLOOR)
            self.a.clamp_(min=2 * FLOOR)

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        p, a = self.p.float().clamp(min=FLOOR)[:, None], self.a.float().clamp(min=FLOOR)[:, None]
        distance = distances(n, self.p.device)
        if self.form == "log":
            return -p * torch.log1p(a * distance)
        # The gradient of 0^p in p is 0 * ln 0 = nan. The value is 0, so distance 0 is left out of the power.
        return -a * torch.where(distance > 0, distance.clamp(min=1) ** p.clamp(max=2), 0)
