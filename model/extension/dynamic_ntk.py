from torch import Tensor

from ..shape import Shape
from .frequencies import FrequencyRule, Target, change_base


class DynamicNtk(FrequencyRule):
    """NTK-aware scaling with a factor that grows with the number of tokens so far, l: s = max(1, l / L).

    From emozilla (2023) and 2309.00071. Nothing changes up to the training length. Past it the angles of all keys
    change with every token, which is exact here because the cache holds raw keys.

    factor: f of the released code, s = f * l / L - (f - 1); the paper's rule is f = 1.
    """

    length_dependent = True

    def __init__(self, shape: Shape, *, factor: float):
        super().__init__(shape, factor=factor)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        longer = max(1.0, target.total_length / target.train_length)
        return change_base(frequencies, target.factor * longer - (target.factor - 1)), 1.0
