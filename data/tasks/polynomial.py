from dataclasses import dataclass

import numpy as np

from .base import DIGITS, Stepwise, draw, option


@dataclass(frozen=True)
class Polynomial(Stepwise):
    """3:275= -> 4: 2 x^2 + 7 x + 5 at x = 3, modulo `modulus`. `size` is the number of coefficients.

    The steps are Horner's values: 2, 2*3+7 = 3, 3*3+5 = 4.
    """

    modulus: int = option("everything is taken modulo it", minimum=2, maximum=10, example=10)

    def question(self, size: int, rng: np.random.Generator) -> str:
        digits = DIGITS[: self.modulus]
        return f"{draw(digits, 1, rng)}:{draw(digits, size, rng)}"

    def answer(self, question: str) -> str:
        return self.steps(question)[-1]

    def steps(self, question: str) -> str:
        place, coefficients = question.split(":")
        value, steps = 0, []
        for coefficient in coefficients:
            value = (value * int(place) + int(coefficient)) % self.modulus
            steps.append(str(value))
        return "".join(steps)
