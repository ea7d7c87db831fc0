"""What the rules for rotary frequencies share. A rule is a function of the frequencies and a few numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pe.base import PositionEncoding
from ..pe.common.regions import Regions
from ..pe.common.scaling import Scaling
from ..pe.rope import Rope
from ..shape import Shape
from .base import Extension, clone, longer


@dataclass(frozen=True)
class Target:
    """What a rule may know besides the frequencies."""

    base: float
    train_length: int  # L
    factor: float  # s: L' / L, or what the option says
    total_length: int  # tokens so far; only for rules with `length_dependent`


class FrequencyRule(Extension):
    """theta'_c = rule(theta_c), and an amplitude for cos and sin. A subclass defines `scale`."""

    applies_to = "rotary encodings (rope and its relatives)"
    length_dependent = False

    def __init__(self, shape: Shape, *, factor: float | None):
        super().__init__(shape)
        self.factor = longer(factor)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        """Radians a position of each pair, float64 (r/2,) -> the same, and the amplitude of cos and sin."""
        raise NotImplementedError

    def fits(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Rope | Regions)

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        if isinstance(encoding, Rope):
            return self.ruled(encoding, length)
        assert isinstance(encoding, Regions)
        copy = clone(encoding)
        copy.rope = self.ruled(copy.rope, length)
        copy.length_dependent = copy.rope.length_dependent
        return copy

    def ruled(self, rope: Rope, length: int) -> Rope:
        copy = clone(rope)
        copy.scaling = Ruled(self, rope.base, length, rope.scaling)
        copy.length_dependent = rope.length_dependent or self.length_dependent
        return copy


@dataclass(frozen=True)
class Ruled(Scaling):
    """A rule for one length, after the scaling that the encoding already had."""

    rule: FrequencyRule
    base: float
    length: int
    before: Scaling

    def __call__(self, frequencies: Tensor, total_length: int) -> tuple[Tensor, float]:
        frequencies, amplitude = self.before(frequencies, total_length)
        factor = self.rule.ratio(self.rule.factor, self.length)
        target = Target(self.base, self.rule.shape.train_length, factor, total_length)
        frequencies, more = self.rule.scale(frequencies, target)
        return frequencies, amplitude * more


def rebased(frequencies: Tensor, factor: float) -> Tensor:
    """Frequencies of the base b * factor^(r/(r-2)): the fastest pair as it was, the slowest divided by `factor`."""
    pairs = frequencies.shape[0]
    exponent = torch.arange(pairs, device=frequencies.device, dtype=frequencies.dtype) / max(1, pairs - 1)
    return frequencies * factor**-exponent
