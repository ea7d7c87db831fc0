import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require
from .common.rotation import Rotation, angles, rotate


class Fope(PositionEncoding):
    """Fourier position embedding (2412.17739): each pair is rotated by a series of frequencies instead of one.

    cos and sin of the frequencies that complete a turn in the training length are mixed by one matrix per head, the
    identity plus Xavier noise. The other pairs are not rotated. The result is no rotation: norms change, and the
    attention is not a function of i - j. The matrices are shared by the layers, and by a key head and its queries.

    As in the released code, at most half of the pairs are rotated. The released code multiplies the others by 1 + i,
    and this class by 1: the difference is a fixed map that W_q and W_k can learn.

    gain: of the noise; the paper raises it with the size of the model.
    learned: train the matrices. Otherwise they are drawn once, from a fixed seed.
    """

    cacheable_keys = True

    def __init__(
        self, shape: Shape, *, base: float, layout: Literal["half", "interleaved"], gain: float, learned: bool
    ):
        super().__init__(shape)
        require(
            shape.head_dim % 4 == 0,
            f"model.width / model.heads = {shape.head_dim}: fope turns half of the pairs, so it is a multiple of 4.\n"
            f"Try model.width={shape.heads * max(4, shape.head_dim // 4 * 4)}",
        )
        exponents = [c / shape.head_dim for c in range(0, shape.head_dim, 2)]
        self.theta = [base**-e for e in exponents if base**-e * shape.train_length >= 2 * math.pi]
        require(
            bool(self.theta),
            f"train.length={shape.train_length}: the fastest pair takes 6.28 tokens per turn, so none turns.\n"
            f"Try train.length=128",
        )
        self.layout, self.gain = layout, gain
        self.series = min(len(self.theta), shape.head_dim // 4)
        size = shape.kv_heads, len(self.theta), self.series
        if learned:
            self.weight = nn.Parameter(torch.empty(2, *size))
        # Not a buffer: it stays float32 and on the CPU when the model is cast or moved.
        self.fixed = None if learned else mixture(*size, gain, torch.Generator().manual_seed(0))

    def reset(self, generator: torch.Generator) -> None:
        _, heads, n, series = self.weight.shape
        with torch.no_grad():
            self.weight.copy_(mixture(heads, n, series, self.gain, generator))

    def mixture(self, device: torch.device | None = None) -> Tensor:
        """Weights that mix cos [0] and sin [1] of the frequencies into the pairs, float32 (2, H_kv, n, series)."""
        return self.weight.float() if self.fixed is None else self.fixed.to(device)

    def prepare(self, context: Context) -> Rotation:
        device = context.positions.device
        waves = angles(context.positions, torch.tensor(self.theta, dtype=torch.float64))
        mixture = self.mixture(device)
        unrotated = self.shape.head_dim // 2 - self.series
        cos = nn.functional.pad(waves.cos @ mixture[0], (0, unrotated), value=1.0)  # (B|1, H_kv, T, d/2)
        sin = nn.functional.pad(waves.sin @ mixture[1], (0, unrotated))
        return Rotation(cos, sin)

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        group = self.shape.heads // self.shape.kv_heads
        last = prepared.last(context.queries)
        return rotate(q, Rotation(*(x.repeat_interleave(group, 1) for x in (last.cos, last.sin))), self.layout)

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return rotate(k, prepared.last(k.shape[2]), self.layout)


def mixture(heads: int, n: int, series: int, gain: float, generator: torch.Generator) -> Tensor:
    """The identity, with each of `series` frequencies for several pairs, plus noise: float32 (2, heads, n, series)."""
    main = torch.zeros(n, series, device=generator.device)
    step = math.ceil(n / series)
    for pair in range(math.ceil(n / step)):
        main[pair * step, pair] = 1
    noise = [torch.empty(heads, n, series, device=generator.device) for _ in range(2)]
    return torch.stack([main + nn.init.xavier_normal_(x, gain, generator=generator) for x in noise])
