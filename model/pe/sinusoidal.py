import math
from typing import Literal

import torch
from torch import Tensor

from ..precision import exact
from ..shape import Shape
from .base import Context, PositionEncoding, require
from .common.rotation import frequencies


class Sinusoidal(PositionEncoding):
    """Sinusoids (1706.03762): x_t sqrt(D) + PE(t), PE(t, 2c) = sin(t / base^(2c/D)), PE(t, 2c+1) = the cosine of it.

    layout: `interleaved` is the paper's order; `concatenated` has all sines before all cosines (tensor2tensor, with the
    paper's exponents). They differ by a permutation of the channels.
    """

    def __init__(self, shape: Shape, *, base: float, layout: Literal["interleaved", "concatenated"]):
        super().__init__(shape)
        require(base > 1, f"pe.base={base}: wavelengths grow with powers of the base.\nTry pe.base=10000")
        require(
            shape.width % 2 == 0,
            f"model.width={shape.width}: sines and cosines come in pairs.\nTry model.width={shape.width + 1}",
        )
        self.base, self.layout = base, layout

    def code(self, positions: Tensor) -> Tensor:
        """Float32 codes of positions (...): (..., D)."""
        return sinusoids(positions, self.shape.width, self.base, self.layout)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        return x * math.sqrt(self.shape.width) + self.code(context.query_positions).to(x.dtype)


def sinusoids(positions: Tensor, width: int, base: float = 10000.0, layout: str = "concatenated") -> Tensor:
    """Sines and cosines of positions (...), float32 (..., width). Angles are float64: float32 is too coarse far out."""
    angle = exact(positions)[..., None] * frequencies(base, width, positions.device)
    parts = [part.float().to(positions.device) for part in (angle.sin(), angle.cos())]
    return torch.stack(parts, -1).flatten(-2) if layout == "interleaved" else torch.cat(parts, -1)
