"""A task: questions of any size, each with its one right answer, in characters.

One task is one file here, `class Copy(Task)` in copy.py, and one YAML file in configs/data. A subclass says how a
question of a size is drawn and what its answer is; its dataclass fields are its options. Shown to a model as

    <|doc|> question = answer <|doc|>

and only what follows the "=" is trained and scored. The separator in front is a distinct first token, without which
a model without positions cannot count; the one at the end has to be predicted too: knowing where to stop is part of an
answer.
"""

import string
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

ALPHABET = string.digits + string.ascii_letters + "=+-|;:,?&~<>"  # of all tasks: one vocabulary
LETTERS = np.array(list(string.ascii_letters))
DIGITS = np.array(list(string.digits))


def option(doc: str, **rules: Any) -> Any:
    """A field that can be set with data.NAME=VALUE. Rules: choices, minimum, maximum, example."""
    return field(metadata={"doc": doc, **rules})


@dataclass(frozen=True)
class Task:
    """Subclasses define `question` and `answer`."""

    name: str = option("what the task is called in folder names and tables", example="copy")
    source: str = option("the file in data/tasks", example="copy")

    max_size: ClassVar[int | None] = None  # where the task runs out of names

    def question(self, size: int, rng: np.random.Generator) -> str:
        """A random question of this size (1 or more)."""
        raise NotImplementedError

    def answer(self, question: str) -> str:
        raise NotImplementedError

    def written(self, question: str) -> str:
        """Everything that is to be written after the question."""
        return self.answer(question)

    def longest(self, size: int) -> int:
        """Characters of question and answer together, at most. Here: all of one size are equally long."""
        question = self.question(size, np.random.default_rng(0))
        return len(question) + len(self.written(question))


@dataclass(frozen=True)
class Stepwise(Task):
    """A task whose answer can be reached in steps, which are written down in front of it: question=steps|answer."""

    scratchpad: bool = option("write the steps that lead to the answer in front of it")

    def steps(self, question: str) -> str:
        raise NotImplementedError

    def written(self, question: str) -> str:
        answer = self.answer(question)
        return f"{self.steps(question)}|{answer}" if self.scratchpad else answer


def draw(letters: np.ndarray, count: int, rng: np.random.Generator) -> str:
    """`count` independent letters."""
    return "".join(letters[rng.integers(len(letters), size=count)])
