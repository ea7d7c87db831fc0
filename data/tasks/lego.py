from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import LETTERS, Stepwise


@dataclass(frozen=True)
class Lego(Stepwise):
    """b-a;c+b;a+1?c= -> -: a is +1, b is -a, c is +b. `size` is the number of clauses, in random order (2206.04301).

    The steps are the values from the first variable to the last: a+ b- c-.
    """

    max_size: ClassVar[int] = len(LETTERS)

    def question(self, size: int, rng: np.random.Generator) -> str:
        names = rng.permutation(LETTERS)[:size].tolist()
        signs = np.array(["+", "-"])[rng.integers(2, size=size)]
        clauses = [name + sign + before for name, sign, before in zip(names, signs, ["1", *names], strict=False)]
        return ";".join(clauses[i] for i in rng.permutation(size)) + f"?{names[-1]}"

    def answer(self, question: str) -> str:
        return self.steps(question)[-1]

    def steps(self, question: str) -> str:
        clauses, last = question.split("?")
        after = {clause[2]: clause for clause in clauses.split(";")}  # each name is used once, in the clause after it
        name, positive, steps = "1", True, []
        while name != last:
            name, sign, _ = after[name]
            positive ^= sign == "-"
            steps.append(name + ("+" if positive else "-"))
        return "".join(steps)
