import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape
from .base import RandomPlan


class ShapeShift(RandomPlan):
    """SHAPE (2109.05644): the whole sequence is shifted by k ~ U{0, ..., max_shift} in training, t -> t + k.

    An absolute code then cannot equate position and index and has to use differences. Relative schemes are not
    affected.

    max_shift: null is the training length.
    """

    contiguous = True

    def __init__(self, shape: Shape, *, max_shift: int | None):
        super().__init__(shape)
        self.max_shift = shape.train_length if max_shift is None else max_shift
        if self.max_shift < 0:
            raise ModelError(f"positions.max_shift={max_shift}: a shift is 0 or more.\nTry positions.max_shift=500")

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return length + self.max_shift if self.active(training) else length

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        shift = torch.randint(self.max_shift + 1, (batch, 1), generator=generator, device=device)
        return torch.arange(length, device=device) + shift
