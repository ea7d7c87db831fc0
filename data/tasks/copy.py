from dataclasses import dataclass

import numpy as np

from .base import LETTERS, Task, draw, option


@dataclass(frozen=True)
class Copy(Task):
    """abca= -> abca"""

    symbols: int = option("letters to draw from", minimum=2, maximum=52, example=10)

    def question(self, size: int, rng: np.random.Generator) -> str:
        return draw(LETTERS[: self.symbols], size, rng)

    def answer(self, question: str) -> str:
        return question
