import math

import torch
from torch import Tensor

from ..shape import Shape
from .frequencies import FrequencyRule, Target


class Resonance(FrequencyRule):
    """Resonance RoPE (2403.00071): wavelengths are rounded to integers, theta = 2 pi / round(2 pi / theta).

    A pair that completes at least one turn in training then has no new angle at any position. Meant for training, alone
    or after another rule: the paper's best is chain(yarn_code, resonance).
    """

    def __init__(self, shape: Shape):
        super().__init__(shape, factor=None)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        wavelength = (2 * math.pi / frequencies).round()  # infinite for a pair of frequency 0
        return torch.where(frequencies > 0, 2 * math.pi / wavelength, 0), 1.0
