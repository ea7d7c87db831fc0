from typing import Literal

import torch
from torch import Tensor

from ..shape import Shape
from .base import RandomPlan, checked_end


class Randomised(RandomPlan):
    """Randomised positions (2305.16843): T distinct ones of 0, ..., maximum - 1, drawn for each sequence and sorted.

    Up to `maximum` tokens then have no position that is new to the model. Each sequence has its own draw
    (the released code has one per batch, and one per layer for relative schemes).

    maximum: null is 16 times the training length.
    evaluation: `law` draws as in training; average several draws for a fair result, because 0, 1, 2, ... is far from
    the trained distribution. `even` is the mean of that distribution, rounded down: evenly spaced and not random.
    """

    def __init__(self, shape: Shape, *, maximum: int | None, evaluation: Literal["law", "even"]):
        super().__init__(shape)
        self.maximum, self.evaluation = checked_end(shape, maximum, "maximum"), evaluation
        self.max_length = self.maximum

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return self.maximum

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        # The indices of the largest of `maximum` random numbers are a uniform choice; float64 makes ties improbable.
        keys = torch.rand(batch, self.maximum, generator=generator, device=generator.device, dtype=torch.float64)
        return keys.topk(length, dim=1, sorted=False).indices.sort(dim=1).values

    def mean(self, length: int, device: torch.device) -> Tensor:
        rank = torch.arange(1, length + 1, device=device)[None]
        return rank * (self.maximum + 1) // (length + 1) - 1
