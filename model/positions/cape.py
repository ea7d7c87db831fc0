import math

import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape
from .base import Drawn


class Cape(Drawn):
    """Continuous augmented positions (2106.03143): t -> s * (t + D + e_t) in training, 0, 1, 2, ... in evaluation.

    D ~ U(-global_shift, global_shift) and ln s ~ U(-ln global_scale, ln global_scale) for each sequence,
    e_t ~ U(-local_shift/2, local_shift/2) for each token, so with local_shift <= 1 the order stays (as the `cape` package
    has it). Positions are fractions, may be negative, and need an encoding that is a function of them: sinusoids, RoPE.
    """

    fractional = True

    def __init__(self, shape: Shape, *, global_shift: float, local_shift: float, global_scale: float):
        super().__init__(shape)
        for key, value, least in (
            ("global_shift", global_shift, 0),
            ("local_shift", local_shift, 0),
            ("global_scale", global_scale, 1),
        ):
            if value < least:
                raise ModelError(f"positions.{key}={value}: expected {least} or more.\nTry positions.{key}={least}")
        self.global_shift, self.local_shift, self.global_scale = global_shift, local_shift, global_scale

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        def uniform(columns: int, half_width: float) -> Tensor:
            return (torch.rand(batch, columns, generator=generator, device=generator.device) * 2 - 1) * half_width

        shift, jitter = uniform(1, self.global_shift), uniform(length, self.local_shift / 2)
        scale = uniform(1, math.log(self.global_scale)).exp()
        return scale * (torch.arange(length, device=generator.device) + shift + jitter)
