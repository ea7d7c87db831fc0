from torch import Tensor

from .frequencies import FrequencyRule, Target


class Pi(FrequencyRule):
    """Position interpolation (2306.15595): theta / s, the same as positions t / s.

    Meant for a short fine-tuning at the new length. Without it the model is also worse within the training length.
    """

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        return frequencies / target.factor, 1.0
