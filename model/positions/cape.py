import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape
from .base import RandomPlan


class Cape(RandomPlan):
    """Continuous augmented positions (2106.03143): t -> s * (t + D + e_t) in training, 0, 1, 2, ... in evaluation.

    D ~ U(-global_shift, global_shift) and ln s ~ U(-ln global_scale, ln global_scale) per sequence, and
    e_t ~ U(-local_shift/2, local_shift/2) per token, as in the `cape` package. So the order is unchanged if
    local_shift <= 1. Positions are fractional and may be negative. They need an encoding that is a function of real
    numbers: sinusoids, RoPE.
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
        uniform = 2 * torch.rand(batch, length + 2, generator=generator, device=generator.device) - 1
        shift, scale, jitter = uniform.split([1, 1, length], dim=1)
        t = torch.arange(length, device=generator.device) + self.global_shift * shift + self.local_shift / 2 * jitter
        return self.global_scale**scale * t
