from dataclasses import dataclass

import numpy as np

from .base import DIGITS, Stepwise, draw, option


@dataclass(frozen=True)
class Subtraction(Stepwise):
    """457-068= -> 389: the first number is not the smaller one; all three have `size` digits.

    The steps go from the last digit to the first, each with the digit of the difference and the borrow: 91 81 30.
    """

    backward: bool = option("write every number from its last digit to its first")

    def question(self, size: int, rng: np.random.Generator) -> str:
        small, large = sorted(draw(DIGITS, size, rng) for _ in range(2))
        return f"{self._turned(large)}-{self._turned(small)}"

    def answer(self, question: str) -> str:
        a, b = self._numbers(question)
        return self._turned(str(int(a) - int(b)).zfill(len(a)))

    def steps(self, question: str) -> str:
        borrowed, steps = 0, []
        for x, y in zip(*(map(int, reversed(number)) for number in self._numbers(question)), strict=True):
            borrowed, digit = divmod(x - y - borrowed, 10)
            borrowed = -borrowed
            steps.append(f"{digit}{borrowed}")
        return "".join(steps)

    def _numbers(self, question: str) -> list[str]:
        """Both numbers, first digit first."""
        return [self._turned(number) for number in question.split("-")]

    def _turned(self, number: str) -> str:
        return number[::-1] if self.backward else number
