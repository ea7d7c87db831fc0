from torch import Tensor

from ..shape import Shape
from .frequencies import FrequencyRule, Target, rebased


class DynamicNtk(FrequencyRule):
    """NTK-aware scaling whose factor grows with the tokens so far (emozilla, 2023; 2309.00071): s = max(1, l / L).

    Unchanged up to the training length. The keys' angles change with every token past it, which is exact here
    because the cache holds raw keys.

    factor: f of the released code, s = f * l / L - (f - 1); the paper's rule is f = 1.
    """

    length_dependent = True

    def __init__(self, shape: Shape, *, factor: float):
        super().__init__(shape, factor=factor)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        longer = max(1.0, target.total_length / target.train_length)
        return rebased(frequencies, target.factor * longer - (target.factor - 1)), 1.0
