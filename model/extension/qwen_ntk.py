import math

from torch import Tensor

from ..shape import Shape
from .frequencies import FrequencyRule, Target, change_base


class QwenNtk(FrequencyRule):
    """Qwen-1's dynamic NTK rule: the base grows in steps, by alpha^(r/(r-2)), with the number of tokens so far, l.

    alpha = max(1, 2^ceil(log2(l / L) + 1) - 1): 1 up to the training length, 3 up to twice it, then 7, 15, ... The
    released model takes l from the prompt and keeps the angles of cached keys when alpha changes; here the angles of
    all keys change, which is exact. Qwen adds log-n scaling: chain it with logn.
    """

    length_dependent = True

    def __init__(self, shape: Shape):
        super().__init__(shape, factor=None)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        doublings = math.log2(target.total_length / target.train_length)
        return change_base(frequencies, max(1.0, 2.0 ** math.ceil(doublings + 1) - 1)), 1.0
