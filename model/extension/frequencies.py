"""Base of the extensions that change the frequencies of a rotary encoding by a formula."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pe.base import PositionEncoding
from ..pe.common.regions import Regions
from ..pe.common.rotation import Scaling
from ..pe.rope import Rope
from ..shape import Shape
from .base import Extension, checked_factor, clone


@dataclass(frozen=True)
class Target:
    """Inputs of a rule besides the frequencies."""

    base: float
    train_length: int  # L
    factor: float  # s: L' / L, or the option `factor`
    total_length: int  # number of tokens so far; only for rules with `length_dependent`


class FrequencyRule(Extension):
    """theta'_c = rule(theta_c), and an amplitude for cos and sin. A subclass defines `scale`.

    factor: s; null is the length of the evaluation divided by that of the training.
    """

    scope = "rotary encodings (rope and its relatives)"
    length_dependent = False

    def __init__(self, shape: Shape, *, factor: float | None):
        super().__init__(shape)
        self.factor = checked_factor(factor)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        """Radians per position of each pair, float64 (r/2,) -> the scaled ones, and the amplitude of cos and sin."""
        raise NotImplementedError

    def applies_to(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Rope | Regions)

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        if isinstance(encoding, Rope):
            return self.with_scaling(encoding, length)
        assert isinstance(encoding, Regions)
        copy = clone(encoding)
        copy.rope = self.with_scaling(copy.rope, length)
        copy.length_dependent = copy.rope.length_dependent
        return copy

    def with_scaling(self, rope: Rope, length: int) -> Rope:
        """A copy of `rope` with the frequencies for `length` tokens."""
        copy = clone(rope)
        copy.scaling = ScaledFrequencies(self, rope.base, length, rope.scaling)
        copy.length_dependent = rope.length_dependent or self.length_dependent
        return copy


@dataclass(frozen=True)
class ScaledFrequencies(Scaling):
    """A rule for one length, applied after the scaling that the encoding already had."""

    rule: FrequencyRule
    base: float
    length: int
    previous: Scaling

    def __call__(self, frequencies: Tensor, total_length: int) -> tuple[Tensor, float]:
        frequencies, amplitude = self.previous(frequencies, total_length)
        factor = self.rule.ratio(self.rule.factor, self.length)
        target = Target(self.base, self.rule.shape.train_length, factor, total_length)
        frequencies, more = self.rule.scale(frequencies, target)
        return frequencies, amplitude * more


def change_base(frequencies: Tensor, factor: float) -> Tensor:
    """Frequencies of the base b * factor^(r/(r-2)): the fastest pair is unchanged, the slowest divided by `factor`."""
    pairs = frequencies.shape[0]
    exponent = torch.arange(pairs, device=frequencies.device, dtype=frequencies.dtype) / max(1, pairs - 1)
    return frequencies * factor**-exponent
