import math

from torch import Tensor

from ..pe.base import require
from ..pe.rope import Rope
from ..shape import Shape
from .frequencies import FrequencyRule, Target


class Longrope(FrequencyRule):
    """LongRoPE (2402.13753): theta_c / factor_c, with one list of factors up to the training length and one past it.

    cos and sin are multiplied by sqrt(1 + ln s / ln L). The lists come from a search with a trained model. The
    search can also leave the first tokens unscaled; no released model does, and neither does this class. Past the
    training length the angles of all keys change, which is exact here because the cache holds raw keys.

    short, long: one number per pair. null: 1 everywhere for short, and NTK's factors, the start of the search, for
    long.  amplitude: overrides that of cos and sin.
    """

    length_dependent = True

    def __init__(
        self,
        shape: Shape,
        *,
        factor: float | None,
        short: list[float] | None,
        long: list[float] | None,
        amplitude: float | None,
    ):
        super().__init__(shape, factor=factor)
        require(shape.train_length >= 2, f"train.length={shape.train_length}: LongRoPE divides by its logarithm.")
        self.lists = {"short": short, "long": long}
        self.amplitude = amplitude

    def with_scaling(self, rope: Rope, length: int) -> Rope:
        pairs = rope.rotated // 2
        for name, factors in self.lists.items():
            require(
                factors is None or (len(factors) == pairs and min(factors) > 0),
                f"extension.{name}={factors}: expected a positive number for each of the {pairs} pairs that rotate.\n"
                f"Try extension.{name}=null",
            )
        return super().with_scaling(rope, length)

    def scale(self, frequencies: Tensor, target: Target) -> tuple[Tensor, float]:
        longer = target.total_length > target.train_length
        factors = self.lists["long" if longer else "short"]
        pairs = frequencies.shape[0]
        if factors is None:
            factors = [target.factor ** (c / max(1, pairs - 1)) if longer else 1.0 for c in range(pairs)]
        amplitude = math.sqrt(1 + math.log(target.factor) / math.log(target.train_length))
        if self.amplitude is not None:
            amplitude = self.amplitude
        return frequencies / frequencies.new_tensor(factors), amplitude
