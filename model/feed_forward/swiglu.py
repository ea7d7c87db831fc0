"""SwiGLU (2002.05202): down(silu(gate) * value), where `up` computes gate and value."""

import torch.nn.functional as F
from torch import Tensor

from .base import FeedForward


class Swiglu(FeedForward):
    up_factor = 2

    @staticmethod
    def default_width(width: int) -> int:
        return 16 * round(width * 8 / 3 / 16)

    def activation(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value
