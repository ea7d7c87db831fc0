from typing import Literal

from ..pe.base import PositionEncoding
from ..pe.t5 import T5
from ..shape import Shape
from .base import Extension, checked_factor, clone
from .interpolated_bias import InterpolatedBias


class T5Rescale(Extension):
    """T5's bias for distances s times as long, so that the buckets of training cover them.

    factor: s; null is the length of the evaluation divided by that of the training.
    by: `buckets` widens the logarithmic buckets only, up to s * max_distance, and leaves near distances exact;
    `distances` reads the bias at distance / s.
    """

    scope = "t5"

    def __init__(self, shape: Shape, *, factor: float | None, by: Literal["buckets", "distances"]):
        super().__init__(shape)
        self.factor, self.by = checked_factor(factor), by

    def applies_to(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, T5)

    def apply(self, encoding: T5, length: int) -> PositionEncoding:
        s = self.ratio(self.factor, length)
        if self.by == "distances":
            return InterpolatedBias(encoding, s)
        copy = clone(encoding)
        copy.max_distance = round(s * encoding.max_distance)
        return copy
