import math

import torch
from torch import Tensor

from ..pe.base import require
from ..shape import Shape
from .frequencies import FrequencyRule, Target


class NtkMixed(FrequencyRule):
    """Mixed-base NTK (Su 2023, kexue.fm/archives/9706): theta_c exp(-a (c + 1)^power), and theta / s for the last pair.

    Between position interpolation (power = 0) and NTK-aware scaling (power = 1, up to the count of pairs).
    """

    def __init__(self, shape: Shape, *, factor: float | None, power: float):
        super().__init__(shape, factor=factor)
        require(0 <= power <= 1, f"extension.power={power}: from 0 (pi) to 1 (ntk).\nTry extension.power=0.75")
        self.power = power

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        pairs = frequencies.shape[0]
        c = torch.arange(1, pairs + 1, device=frequencies.device, dtype=frequencies.dtype)
        return frequencies * torch.exp(-math.log(target.factor) * (c / pairs) ** self.power), 1.0
