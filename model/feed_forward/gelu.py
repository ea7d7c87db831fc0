"""GELU (1606.08415), exact or in the approximation by tanh that GPT-2 and Bloom use."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from .base import FeedForward


class Gelu(FeedForward):
    def __init__(self, width: int, inner_width: int, bias: bool, *, approximate: Literal["none", "tanh"]):
        super().__init__(width, inner_width, bias)
        self.approximate = approximate

    def activation(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)
