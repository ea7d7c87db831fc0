import math
from typing import Literal

import torch
from torch import Tensor

from ..shape import Shape
from .base import require
from .rope import Rope


class Hope(Rope):
    """HoPE (2410.21216): RoPE without the pairs that complete no turn within the training length.

    Such a pair covers only a part of its circle in training and has unknown angles past it. Not the HoPE for video
    (2505.20444), nor the hyperbolic one (2509.05218).

    length: longest wavelength that is rotated; null is the training length.
    """

    def __init__(self, shape: Shape, *, base: float, layout: Literal["half", "interleaved"], length: int | None):
        super().__init__(shape, base=base, layout=layout, partial=1.0)
        self.length = shape.train_length if length is None else length
        require(
            self.length > 2 * math.pi,
            f"pe.length={self.length}: the fastest pair takes 6.28 tokens per turn, so none would turn.\n"
            f"Try pe.length=128",
        )

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        frequencies = super().frequencies(device)
        return torch.where(frequencies * self.length >= 2 * math.pi, frequencies, 0)
