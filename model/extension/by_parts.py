import math
from typing import Literal

import torch
from torch import Tensor

from ..pe.base import require
from ..shape import Shape
from .frequencies import FrequencyRule, Target


class ByParts(FrequencyRule):
    """NTK-by-parts and YaRN (2309.00071), Llama 3 (2407.21783): fast pairs are unchanged, slow ones interpolated.

        theta' = (1 - g) theta / s + g theta,  cos and sin times 0.1 mscale ln s + 1

        ramp = rotations   g = clip((r - alpha) / (beta - alpha), 0, 1) with r = L theta / 2 pi, the number of
                           turns of the pair in training: the papers
        ramp = index       linear in the index of the pair, between the pairs of beta and of alpha turns: a
                           different function, that of YaRN's released code and transformers; `truncate` rounds
                           both ends outwards

    alpha, beta: turns below which a pair is interpolated and above which it is unchanged. The paper's beta = 32 is
    meant for L = 4,096. With L below 201 no pair makes 32 turns, so all are interpolated, and a model that is not
    fine-tuned is worse than without the extension. null is sqrt(L) / 2, at least 2 and at most 32: 32 at
    L = 4,096, as in the paper.
    mscale: 0 is an amplitude of 1.  amplitude: overrides it.  dynamic: s = max(1, tokens so far / L).
    """

    def __init__(
        self,
        shape: Shape,
        *,
        factor: float | None,
        alpha: float,
        beta: float | None,
        mscale: float,
        amplitude: float | None,
        ramp: Literal["rotations", "index"],
        truncate: bool,
        dynamic: bool,
    ):
        super().__init__(shape, factor=factor)
        self.alpha = alpha
        self.beta = min(32.0, max(2.0, math.sqrt(shape.train_length) / 2)) if beta is None else beta
        require(
            0 < alpha < self.beta,
            f"extension.alpha={alpha} and extension.beta={self.beta:g}: numbers of turns, alpha the smaller.\n"
            f"Try extension.alpha=1 extension.beta=null",
        )
        require(
            not dynamic or factor is None,
            f"extension.factor={factor}: a dynamic factor follows the tokens so far.\nTry extension.factor=null",
        )
        self.mscale, self.amplitude, self.ramp, self.truncate = mscale, amplitude, ramp, truncate
        self.length_dependent = dynamic

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        s = max(1.0, target.total_length / target.train_length) if self.length_dependent else target.factor
        keep = self.unscaled_share(frequencies, target)
        amplitude = 0.1 * self.mscale * math.log(s) + 1 if self.amplitude is None else self.amplitude
        return (1 - keep) * frequencies / s + keep * frequencies, amplitude

    def unscaled_share(self, frequencies: Tensor, target: Target) -> Tensor:
        """g: the share of each pair's frequency that is not interpolated, from 0 to 1."""
        if self.ramp == "rotations":
            turns = target.train_length * frequencies / (2 * math.pi)
            return ((turns - self.alpha) / (self.beta - self.alpha)).clamp(0, 1)

        channels = 2 * frequencies.shape[0]

        def pair(turns: float) -> float:
            return channels * math.log(target.train_length / (2 * math.pi * turns)) / (2 * math.log(target.base))

        first, last = pair(self.beta), pair(self.alpha)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, channels - 1)
        if first == last:
            last += 0.001
        index = torch.arange(frequencies.shape[0], device=frequencies.device, dtype=frequencies.dtype)
        return 1 - ((index - first) / (last - first)).clamp(0, 1)
