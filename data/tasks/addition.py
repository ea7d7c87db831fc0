from dataclasses import dataclass

import numpy as np

from .base import DIGITS, Stepwise, draw, option


@dataclass(frozen=True)
class Addition(Stepwise):
    """457+068= -> 0525: both numbers have `size` digits, the sum has one more.

    The steps go from the last digit to the first, each with the digit of the sum and the carry: 51 21 50.
    """

    backward: bool = option("write every number from its last digit to its first")

    def question(self, size: int, rng: np.random.Generator) -> str:
        return f"{draw(DIGITS, size, rng)}+{draw(DIGITS, size, rng)}"

    def answer(self, question: str) -> str:
        a, b = self._numbers(question)
        return self._turned(str(int(a) + int(b)).zfill(len(a) + 1))

    def steps(self, question: str) -> str:
        carry, steps = 0, []
        for x, y in zip(*(map(int, reversed(number)) for number in self._numbers(question)), strict=True):
            carry, digit = divmod(x + y + carry, 10)
            steps.append(f"{digit}{carry}")
        return "".join(steps)

    def _numbers(self, question: str) -> list[str]:
        """Both numbers, first digit first."""
        return [self._turned(number) for number in question.split("+")]

    def _turned(self, number: str) -> str:
        return number[::-1] if self.backward else number
