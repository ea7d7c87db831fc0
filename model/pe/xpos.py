import math
from typing import Literal

import torch
from torch import Tensor

from ..precision import exact, exact_device
from ..shape import Shape
from .base import Block, require
from .rope import Rope


class Xpos(Rope):
    """xPos (2212.10554): RoPE with a decay of each pair, logits sum_c zeta_c^((i-j)/span) <R_i q_c, R_j k_c>.

    zeta_c = (2c/d + gamma) / (1 + gamma), so fast pairs decay fastest.

    The paper multiplies queries by zeta^i and keys by zeta^-j. That overflows within about ten thousand tokens, and the
    released code centres the exponents on a length that differs from the one of cached keys. Here each block of logits
    is centred on its first query. This is exact, because a common centre cancels, and no factor leaves the range of
    float32.
    """

    is_pure_rotation = False

    def __init__(self, shape: Shape, *, base: float, layout: Literal["half", "interleaved"], gamma: float, span: float):
        super().__init__(shape, base=base, layout=layout, partial=1.0)
        require(gamma > 0, f"pe.gamma={gamma}: the fastest pair decays by gamma / (1 + gamma).\nTry pe.gamma=0.4")
        require(
            span > 0,
            f"pe.span={span}: the number of tokens in which a pair decays by zeta is positive.\nTry pe.span=512",
        )
        self.gamma, self.span = gamma, span

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        centre = block.query_positions[:, :1]
        q = self._decay(q, block.query_positions - centre)
        k = self._decay(k, centre - block.key_positions)
        return super().scores(q, k, scale, block)

    def _decay(self, x: Tensor, steps: Tensor) -> Tensor:
        """x (B, H, t, d) times zeta^(steps / span), steps (B|1, t)."""
        pairs = torch.arange(0, self.rotated, 2, device=exact_device(x.device), dtype=torch.float64) / self.rotated
        rate = ((pairs + self.gamma) / (1 + self.gamma)).log() / self.span
        # Only keys in the future of the block's first query have factors above 1, and unmasked ones are near it.
        exponent = (exact(steps)[:, None, :, None] * rate).clamp(max=math.log(1e30)).float()
        factor = exponent.to(x.device).exp()
        factor = torch.cat((factor, factor), -1) if self.layout == "half" else factor.repeat_interleave(2, -1)
        return (x * factor).to(x.dtype)
