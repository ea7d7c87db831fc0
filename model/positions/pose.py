import torch
from torch import Tensor

from ..shape import Shape
from .base import RandomPlan, checked_end


class Pose(RandomPlan):
    """PoSE, positional skip-wise training (2309.10400): a window in two runs, the second shifted ahead at random.

    The first n ~ U{1, ..., ceil(T/2)} tokens are at 0, 1, 2, ...; the others are shifted by u ~ U{0, ..., target - T}.
    So a window of T tokens has distances up to `target`. Training only; meant for adapting a model to longer input.

    target: the length to prepare for; null is 16 times the training length.
    """

    def __init__(self, shape: Shape, *, target: int | None):
        super().__init__(shape)
        self.target = checked_end(shape, target, "target")

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return max(length, self.target) if self.active(training) else length

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        uniform = torch.rand(batch, 2, generator=generator, device=device, dtype=torch.float64)
        choices = torch.tensor([(length + 1) // 2, max(self.target - length, 0) + 1], device=device)
        first, skip = (uniform * choices).long().split(1, dim=1)
        index = torch.arange(length, device=device)
        return index + torch.where(index > first, skip, 0)
