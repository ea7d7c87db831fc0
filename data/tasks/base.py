"""Tasks: questions of any size, each with one right answer, in characters.

A task is one file here, `class Copy(Task)` in copy.py, and one YAML file in configs/data. A subclass draws questions of
a size and computes their answers; its dataclass fields are its options. A model is given

    <|doc|> question = answer <|doc|>

and only the part after the "=" is trained and scored. The separator in front is a distinct first token, without which
a model without positions cannot count. The one at the end is predicted too, because the end is part of an answer.
"""

import string
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..options import option

ALPHABET = string.digits + string.ascii_letters + "=+-|;:,?&~<>"  # of all tasks: one vocabulary
LETTERS = np.array(list(string.ascii_letters))
DIGITS = np.array(list(string.digits))


@dataclass(frozen=True)
class Task:
    """Subclasses define `question` and `answer`."""

    name: str = option("name of the task in folder names and tables", example="copy")
    source: str = option("task: the name of a file in data/tasks", example="copy")

    max_size: ClassVar[int | None] = None  # largest size with distinct names

    def question(self, size: int, rng: np.random.Generator) -> str:
        """Draw a random question of this size (1 or more)."""
        raise NotImplementedError

    def answer(self, question: str) -> str:
        """Compute the answer of a question."""
        raise NotImplementedError

    def completion(self, question: str) -> str:
        """Return the text after the "=": the answer, and the steps in front of it if there are any."""
        return self.answer(question)

    def max_characters(self, size: int) -> int:
        """Return the largest number of characters of question and completion. Default: all of one size are equal."""
        question = self.question(size, np.random.default_rng(0))
        return len(question) + len(self.completion(question))


@dataclass(frozen=True)
class Stepwise(Task):
    """A task whose answer can be computed in steps, which are written in front of it: question=steps|answer."""

    scratchpad: bool = option("write the steps in front of the answer")

    def steps(self, question: str) -> str:
        """Compute the steps that lead to the answer."""
        raise NotImplementedError

    def completion(self, question: str) -> str:
        answer = self.answer(question)
        return f"{self.steps(question)}|{answer}" if self.scratchpad else answer


def draw(letters: np.ndarray, count: int, rng: np.random.Generator) -> str:
    """Draw `count` independent letters."""
    return "".join(letters[rng.integers(len(letters), size=count)])
