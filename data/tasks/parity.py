from dataclasses import dataclass

import numpy as np

from .base import DIGITS, Stepwise, draw


@dataclass(frozen=True)
class Parity(Stepwise):
    """1101= -> 1: parity of the number of ones. The steps are the parities so far: 1 0 0 1."""

    def question(self, size: int, rng: np.random.Generator) -> str:
        return draw(DIGITS[:2], size, rng)

    def answer(self, question: str) -> str:
        return str(question.count("1") % 2)

    def steps(self, question: str) -> str:
        odd, steps = 0, []
        for bit in question:
            odd ^= bit == "1"
            steps.append(str(int(odd)))
        return "".join(steps)
