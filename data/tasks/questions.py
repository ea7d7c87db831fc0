"""A task as a data set: batches to train on, and questions of one size to be asked.

A question is a pure function of what it is for: training (seed, step, row), validation (number), test (size, number).
So no file is written, every run is asked the same questions, and batch n does not depend on how many ranks share it.

Shapes: B rows of this rank, T length.
"""

import hashlib
import json
from bisect import bisect_right
from dataclasses import asdict

import numpy as np

from longrun.base.errors import DataError

from ..tokenizers.base import CharacterTokenizer
from ..windows import Selection, Windows
from .base import ALPHABET, Task

_TRAIN, _VALID, _TEST = 1, 2, 3  # what a random stream is for
_LARGEST = 4096  # no question is larger: Python reads numbers of up to 4,300 digits
_NOT_SCORED = -100


class Questions:
    """The data set of a task. What training and evaluation need of it is in `data/dataset.py`."""

    protocol = "exact_match"
    ratios = (0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0)

    def __init__(self, task: Task):
        self.task = task
        self.tokenizer = CharacterTokenizer(ALPHABET)
        sample = _sample(task)
        answers = [answer for _, answer in sample]
        self.fingerprint = _fingerprint(task, sample)
        # Scored tokens for each character of an answer: its end is a token without characters.
        self.tokens_per_byte = 1 + len(answers) / sum(map(len, answers))
        self.provenance = {"options": asdict(task), "fingerprint": self.fingerprint}

    def largest(self, length: int) -> int:
        """The size of the largest questions that are fed as at most `length` tokens. Raises DataError if none is."""
        sizes = range(1, (self.task.max_size or _LARGEST) + 1)
        size = bisect_right(sizes, length, key=self._fed)
        if not size:
            raise DataError(
                f"length={length}: the smallest question of data={self.task.name} takes {self._fed(1)} tokens.\n"
                f"Try train.length={self._fed(10)}, which is questions up to size 10."
            )
        return size

    def batches(self, length: int, batch: int, seed: int) -> "Batches":
        return Batches(self, length, batch, seed)

    def validation(self, length: int, count: int) -> Selection:
        """`count` questions of all the sizes that fit into `length`."""
        rng = np.random.default_rng([_VALID, 0, 0])
        sizes = rng.integers(1, self.largest(length) + 1, size=count)
        return self._selection([self.task.question(int(size), rng) for size in sizes])

    def asked(self, length: int, count: int) -> tuple[int, Selection]:
        """`count` questions of the largest size that fits into `length`, and that size. Raises DataError if none fits,
        or if the task has no questions that are nearly as long."""
        size = self.largest(length)
        if size == self.task.max_size and self._fed(size) < 0.9 * length:
            raise DataError(f"{self.task.name} has questions up to size {size}, {self._fed(size)} tokens")
        rng = np.random.default_rng([_TEST, size, 0])
        return size, self._selection([self.task.question(size, rng) for _ in range(count)])

    def encoded(self, question: str) -> tuple[np.ndarray, int]:
        """Separator, question, "=", answer, separator as int64, and where the answer begins."""
        asked, answer = self.tokenizer.encode_batch([f"{question}=", self.task.written(question)])
        end = [self.tokenizer.separator]
        return np.concatenate([end, asked, answer, end]).astype(np.int64), len(asked) + 1

    def _fed(self, size: int) -> int:
        """Tokens that are fed with the largest question of a size: a separator, question, "=" and answer."""
        return self.task.longest(size) + 2

    def _selection(self, questions: list[str]) -> Selection:
        texts, begins = zip(*map(self.encoded, questions), strict=True)
        offsets = np.cumsum([0, *map(len, texts)])
        start, end = offsets[:-1], offsets[1:]
        windows = Windows(np.arange(len(texts)), start, end - 1, start + np.array(begins), end)
        return Selection(np.concatenate(texts), offsets, windows, answers=True)


def _sample(task: Task) -> list[tuple[str, str]]:
    """Some questions of the smaller sizes with their answers; always the same."""
    rng = np.random.default_rng(0)
    questions = [task.question(1 + number % 20, rng) for number in range(80)]
    return [(question, task.written(question)) for question in questions]


def _fingerprint(task: Task, sample: list[tuple[str, str]]) -> str:
    """It changes with the options and with the code that draws questions, and not with the name."""
    options = {key: value for key, value in asdict(task).items() if key != "name"}
    return hashlib.sha256(json.dumps([options, sample], sort_keys=True).encode()).hexdigest()


class Batches:
    """Questions of random sizes, one a row, filled up with unscored separators behind the answer.

    Attention is causal, so the filling changes nothing in front of it, except under an encoding that divides by the
    length of the sequence (`normalised`): that one is trained at the length of the row.
    """

    def __init__(self, questions: Questions, length: int, batch: int, seed: int):
        self.questions, self.length, self.batch_size, self.seed = questions, length, batch, seed
        self.most = questions.largest(length)

    def batch(self, step: int, rank: int = 0, world: int = 1):
        """Inputs and targets, int64 tensors (B, T), -100 where not scored: rows `rank::world` of batch `step`."""
        import torch

        if self.batch_size % world:
            raise DataError(
                f"train.batch={self.batch_size} rows cannot be shared evenly by {world} processes.\n"
                f"Use a multiple of {world}, such as {-(-self.batch_size // world) * world}."
            )
        rng = np.random.default_rng([_TRAIN, self.seed, step])
        sizes = rng.integers(1, self.most + 1, size=self.batch_size)
        asked = [self.questions.task.question(int(size), rng) for size in sizes][rank::world]
        tokens = np.full((len(asked), self.length + 1), self.questions.tokenizer.separator)
        targets = np.full((len(asked), self.length), _NOT_SCORED)
        for row, question in enumerate(asked):
            text, begin = self.questions.encoded(question)
            tokens[row, : len(text)] = text
            targets[row, begin - 1 : len(text) - 1] = text[begin:]
        return torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(targets)
