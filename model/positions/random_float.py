from typing import Literal

import torch
from torch import Tensor

from ..precision import exact_device
from ..shape import Shape
from .base import RandomPlan, checked_end


class RandomFloat(RandomPlan):
    """Random float sampling (2602.14050): T sorted real positions, uniform on [0, maximum), drawn for each sequence.

    Training then includes fractional positions, so positions may be rescaled later to make room for any number of
    tokens.

    maximum: null is 16 times the training length.
    evaluation: `law` draws as in training; `even` is the mean of that distribution, evenly spaced and not random.
    """

    fractional = True

    def __init__(self, shape: Shape, *, maximum: int | None, evaluation: Literal["law", "even"]):
        super().__init__(shape)
        self.maximum, self.evaluation = checked_end(shape, maximum, "maximum"), evaluation

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return self.maximum

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(batch, length, generator=generator, device=generator.device, dtype=torch.float64)
        return (uniform * self.maximum).float().sort(dim=1).values

    def mean(self, length: int, device: torch.device) -> Tensor:
        rank = torch.arange(1, length + 1, device=exact_device(device), dtype=torch.float64)[None]
        return (rank * self.maximum / (length + 1)).float().to(device)
