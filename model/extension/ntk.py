from torch import Tensor

from .frequencies import FrequencyRule, Target, change_base


class Ntk(FrequencyRule):
    """NTK-aware scaling (bloc97, 2023; appendix A.1 of 2309.00071): the base becomes b * s^(r/(r-2)).

    The slowest pair is interpolated by s, the fastest is unchanged. Without fine-tuning it reaches a little less than
    s times the training length: choose the factor larger than needed.
    """

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        return change_base(frequencies, target.factor), 1.0
