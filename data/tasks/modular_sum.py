from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from .base import DIGITS, Stepwise, draw, option


@dataclass(frozen=True)
class ModularSum(Stepwise):
    """275= -> 4: the sum of the digits modulo `modulus`. The steps are the partial sums: 2 9 4."""

    modulus: int = option("digits go up to it, and sums are taken modulo it", minimum=2, maximum=10, example=10)

    def question(self, size: int, rng: np.random.Generator) -> str:
        return draw(DIGITS[: self.modulus], size, rng)

    def answer(self, question: str) -> str:
        return str(sum(map(int, question)) % self.modulus)

    def steps(self, question: str) -> str:
        return "".join(str(total % self.modulus) for total in accumulate(map(int, question)))
