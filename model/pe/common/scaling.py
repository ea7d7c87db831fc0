"""Change of the frequencies of a rotary encoding: the hook of all context extensions for rotary encodings."""

from torch import Tensor


class Scaling:
    """Frequencies float64 (r/2,) and the tokens so far -> the frequencies to use, and the amplitude of cos and sin.

    The identity. The formulas of context extension are in model/extension.
    """

    def __call__(self, frequencies: Tensor, total_length: int) -> tuple[Tensor, float]:
        return frequencies, 1.0
