import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Context, PositionEncoding, require


class Binary(PositionEncoding):
    """The position as a binary number: bit c is floor(t / 2^c) mod 2, as -1 or +1, through a linear map to the width.

    Didactic: a sinusoidal code is its continuous counterpart (fast bits are fast frequencies). It is not smooth (7 -> 8
    flips four bits), and bits above log2 of the training length never change in training.

    bits: number of bits. Positions wrap around at 2^bits, which is therefore the limit of the length.
    """

    def __init__(self, shape: Shape, *, bits: int):
        super().__init__(shape)
        require(
            1 <= bits <= 62 and 2**bits >= shape.train_length,
            f"pe.bits={bits}: 2^bits must reach the training length {shape.train_length}, with at most 62 bits.\n"
            f"Try pe.bits={max(1, (shape.train_length - 1).bit_length())} or more.",
        )
        self.bits, self.max_positions = bits, 2**bits
        self.weight = nn.Parameter(torch.empty(shape.width, bits))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, 0, 0.02, generator=generator)

    def code(self, positions: Tensor) -> Tensor:
        """Bits of int64 positions (...) as float32 -1 or +1, lowest first: (..., bits)."""
        place = torch.arange(self.bits, device=positions.device)
        return ((positions[..., None] >> place) & 1).float() * 2 - 1

    def embed(self, x: Tensor, context: Context) -> Tensor:
        return x + F.linear(self.code(context.query_positions), self.weight.float()).to(x.dtype)
