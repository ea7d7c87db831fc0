from typing import Literal

import torch
from torch import Tensor

from ..shape import Shape
from .base import require
from .rope import Rope


class PRope(Rope):
    """p-RoPE (2410.06205): RoPE without the slowest pairs; p = 1 is RoPE, p = 0 is NoPE.

    This is not a partial rotation: exponents count over the whole head, so the rotated pairs have the same frequencies
    as in RoPE.

    p: share of the pairs that are rotated, the fastest ones; rounded down to whole pairs.
    """

    def __init__(self, shape: Shape, *, base: float, layout: Literal["half", "interleaved"], p: float):
        super().__init__(shape, base=base, layout=layout, partial=1.0)
        require(0 <= p <= 1, f"pe.p={p}: the share of the pairs that turn, from 0 to 1.\nTry pe.p=0.75")
        self.rotated_pairs = int(p * shape.head_dim // 2)

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        frequencies = super().frequencies(device)
        frequencies[self.rotated_pairs :] = 0
        return frequencies
