"""The data set of a task: training batches, and test questions of one size.

A question is a pure function of its purpose: training (seed, step, row), validation (number) or test (size, number). So
no file is written, all runs are tested on the same questions, and batch n does not depend on the number of ranks.

Shapes: B rows of this rank, T length.
"""

import hashlib
import json
from bisect import bisect_right
from dataclasses import asdict

import numpy as np

from longrun.base.errors import DataError

from ..tokenizers.alphabet import AlphabetTokenizer
from ..windows import Selection, Windows
from .base import ALPHABET, Task

_TRAIN, _VALID, _TEST = 1, 2, 3  # purposes of random streams
_LARGEST = 4096  # largest size: Python parses numbers of up to 4,300 digits
_NOT_SCORED = -100


class TaskDataset:
    """The data set of a task; it implements `data.dataset.Dataset`."""

    protocol = "exact_match"
    ratios = (0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0)

    def __init__(self, task: Task):
        self.task = task
        self.tokenizer = AlphabetTokenizer(ALPHABET)
        sample = _sample(task)
        answers = [answer for _, answer in sample]
        self.fingerprint = _fingerprint(task, sample)
        # Scored tokens per character of an answer: the final separator is a token without characters.
        self.tokens_per_byte = 1 + len(answers) / sum(map(len, answers))
        self.provenance = {"options": asdict(task), "fingerprint": self.fingerprint}

    def largest(self, length: int) -> int:
        """Return the largest size of questions of up to `length` input tokens. Raises DataError if none fits."""
        sizes = range(1, (self.task.max_size or _LARGEST) + 1)
        size = bisect_right(sizes, length, key=self._input_tokens)
        if not size:
            smallest = self._input_tokens(1)
            raise DataError(
                f"length={length}: the smallest question of data={self.task.name} takes {smallest} tokens.\n"
                f"Try train.length={self._input_tokens(10)}, which is questions up to size 10."
            )
        return size

    def batches(self, length: int, batch: int, seed: int) -> "Batches":
        return Batches(self, length, batch, seed)

    def validation(self, length: int, count: int) -> Selection:
        """Select `count` questions of all sizes that fit into `length`."""
        rng = np.random.default_rng([_VALID, 0, 0])
        sizes = rng.integers(1, self.largest(length) + 1, size=count)
        return self._selection([self.task.question(int(size), rng) for size in sizes])

    def test_questions(self, length: int, count: int) -> tuple[int, Selection]:
        """Return the largest size that fits into `length`, and `count` questions of it.

        Raises DataError if none fits, or if the task has no questions of nearly that length.
        """
        size = self.largest(length)
        if size == self.task.max_size and self._input_tokens(size) < 0.9 * length:
            raise DataError(f"{self.task.name} has questions up to size {size}, {self._input_tokens(size)} tokens")
        rng = np.random.default_rng([_TEST, size, 0])
        return size, self._selection([self.task.question(size, rng) for _ in range(count)])

    def encode(self, question: str) -> tuple[np.ndarray, int]:
        """Return separator, question, "=", completion, separator as int64, and the index of the completion."""
        prompt, completion = self.tokenizer.encode_batch([f"{question}=", self.task.completion(question)])
        end = [self.tokenizer.separator]
        return np.concatenate([end, prompt, completion, end]).astype(np.int64), len(prompt) + 1

    def _input_tokens(self, size: int) -> int:
        """Return the input tokens of the largest question of a size: separator, question, "=" and completion."""
        return self.task.max_characters(size) + 2

    def _selection(self, questions: list[str]) -> Selection:
        texts, begins = zip(*map(self.encode, questions), strict=True)
        offsets = np.cumsum([0, *map(len, texts)])
        start, end = offsets[:-1], offsets[1:]
        windows = Windows(np.arange(len(texts)), start, end - 1, start + np.array(begins), end)
        return Selection(np.concatenate(texts), offsets, windows, answers=True)


def _sample(task: Task) -> list[tuple[str, str]]:
    """Return fixed questions of the smaller sizes with their completions."""
    rng = np.random.default_rng(0)
    questions = [task.question(1 + number % 20, rng) for number in range(80)]
    return [(question, task.completion(question)) for question in questions]


def _fingerprint(task: Task, sample: list[tuple[str, str]]) -> str:
    """Hash the options, without the name, and sample questions, which depend on the code that draws them."""
    options = {key: value for key, value in asdict(task).items() if key != "name"}
    return hashlib.sha256(json.dumps([options, sample], sort_keys=True).encode()).hexdigest()


class Batches:
    """Questions of random sizes, one per row, padded behind the answer with separators that are not scored.

    Attention is causal, so the padding does not change the logits in front of it. An encoding that divides by the
    length of the sequence (`normalised`) is the exception: it is trained at the length of the row.
    """

    def __init__(self, dataset: TaskDataset, length: int, batch: int, seed: int):
        self.dataset, self.length, self.batch_size, self.seed = dataset, length, batch, seed
        self.largest = dataset.largest(length)

    def batch(self, step: int, rank: int = 0, world: int = 1):
        """Return inputs and targets, int64 (B, T), -100 where not scored: rows `rank::world` of batch `step`."""
        import torch

        if self.batch_size % world:
            raise DataError(
                f"train.batch={self.batch_size} rows cannot be shared evenly by {world} processes.\n"
                f"Use a multiple of {world}, such as {-(-self.batch_size // world) * world}."
            )
        rng = np.random.default_rng([_TRAIN, self.seed, step])
        sizes = rng.integers(1, self.largest + 1, size=self.batch_size)
        questions = [self.dataset.task.question(int(size), rng) for size in sizes][rank::world]
        tokens = np.full((len(questions), self.length + 1), self.dataset.tokenizer.separator)
        targets = np.full((len(questions), self.length), _NOT_SCORED)
        for row, question in enumerate(questions):
            text, begin = self.dataset.encode(question)
            tokens[row, : len(text)] = text
            targets[row, begin - 1 : len(text) - 1] = text[begin:]
        return torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(targets)
