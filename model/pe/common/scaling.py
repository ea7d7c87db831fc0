"""Changing the frequencies of a rotary encoding: the one hook that all rules for context extension use."""

from torch import Tensor


class Scaling:
    """frequencies float64 (r/2,) and the tokens so far -> the frequencies to use, and the amplitude of cos and sin.

    This one changes nothing. Rules are in model/extension.
    """

    def __call__(self, frequencies: Tensor, total_length: int) -> tuple[Tensor, float]:
        return frequencies, 1.0
