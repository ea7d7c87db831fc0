import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, distances, require


class MlpBias(DistanceBias):
    """A bias computed from the distance by a small network, shared by the layers.

    Dynamic position bias (CrossFormer, 2108.00154) and continuous position bias (Swin v2, 2111.09883): 1 -> hidden,
    SiLU, -> hidden, SiLU, -> H. The network is that of x-transformers (CrossFormer has LayerNorm and ReLU). Its last
    layer has no bias here, because a number that is added to all keys of a query changes nothing.

    distance: input of the network. `raw`: (i - j) / L, which past the training length L is out of the trained range.
    `log`: ln(1 + i - j) / ln(1 + L), which leaves the trained range slowly.
    """

    def __init__(self, shape: Shape, *, distance: Literal["raw", "log"], hidden: int):
        super().__init__(shape)
        require(hidden >= 1, f"pe.hidden={hidden}: expected 1 or more.\nTry pe.hidden=32")
        self.distance = distance
        self.first = nn.Linear(1, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, shape.heads, bias=False)

    def reset(self, generator: torch.Generator) -> None:
        for linear in (self.first, self.second, self.out):
            bound = linear.in_features**-0.5
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        x = distances(n, self.out.weight.device)[:, None]
        length = self.shape.train_length
        x = x / length if self.distance == "raw" else torch.log1p(x) / math.log1p(length)
        for linear in (self.first, self.second):
            x = F.silu(F.linear(x, linear.weight.float(), linear.bias.float()))
        return F.linear(x, self.out.weight.float()).T
