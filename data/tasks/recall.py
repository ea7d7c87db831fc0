import string
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import DIGITS, Task, draw, option

SMALL = string.ascii_lowercase


@dataclass(frozen=True)
class Recall(Task):
    """ab3,cd7,ee1?cd= -> 7: the value beside the key. `size` is the number of pairs; keys are distinct."""

    values: int = option("digits that values are drawn from", minimum=2, maximum=10, example=10)

    max_size: ClassVar[int] = len(SMALL) ** 2

    def question(self, size: int, rng: np.random.Generator) -> str:
        chosen = rng.choice(self.max_size, size, replace=False)
        keys = [SMALL[k // len(SMALL)] + SMALL[k % len(SMALL)] for k in chosen]
        values = draw(DIGITS[: self.values], size, rng)
        pairs = ",".join(key + value for key, value in zip(keys, values, strict=True))
        return f"{pairs}?{keys[rng.integers(size)]}"

    def answer(self, question: str) -> str:
        pairs, key = question.split("?")
        return next(pair[2] for pair in pairs.split(",") if pair[:2] == key)
