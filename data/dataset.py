"""What training and evaluation need of data: `corpus.Corpus` is text, `tasks.questions.Questions` is a task.

The `data` config group chooses by its key `source`: a kind of text (`data/sources/base.py`), or a task (`data/tasks`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from longrun.base.errors import DataError

from . import corpus
from . import options as text_options
from .tasks import registry as tasks
from .tasks.questions import Questions
from .tokenizers.base import SMALLEST_VOCABULARY, Tokenizer
from .tokenizers.ids import NumberTokenizer
from .windows import Selection


class Batches(Protocol):
    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Any, Any]:
        """Inputs and targets of one step, int64 tensors (rows of this rank, length), -100 where not scored.

        A function of (seed, step) alone; over all ranks the same rows, however many ranks there are.
        """
        ...


class Dataset(Protocol):
    """fingerprint: a name for the content, hexadecimal.  provenance["options"]["name"]: what tables call it.
    tokens_per_byte: of the training text, to turn nats per token into bits per byte.
    protocol, ratios: how a model of it is measured if nothing else is said (data/protocols)."""

    @property
    def provenance(self) -> dict: ...

    @property
    def protocol(self) -> str: ...

    @property
    def ratios(self) -> Sequence[float]: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def tokens_per_byte(self) -> float: ...

    def batches(self, length: int, batch: int, seed: int) -> Batches: ...

    def validation(self, length: int, count: int) -> Selection:
        """About `count` windows of the validation split, at the training length."""
        ...


def kind(source: Any) -> type | None:
    """The dataclass of a task's options; None for text, whose options are those of `options.OPTIONS`."""
    return tasks.kind(source) if source in tasks.names() else None


def measured(source: Any) -> type[corpus.Corpus] | type[Questions]:
    """What data of this source will be; its `protocol` and `ratios` say how a model of it is measured."""
    return corpus.Corpus if kind(source) is None else Questions


def check(options: dict) -> None:
    """Raises DataError for everything that can be known about the options without reading text."""
    if kind(options["source"]) is None:
        text_options.check(options)


def prepare(
    options: dict, cache: Path | None = None, tokenizer: Tokenizer | None = None, progress: bool = True
) -> Dataset:
    """The data that the options describe. Arguments as for `corpus.prepare`.

    tokenizer: that of the model which is going to be measured. Raises DataError if it cannot write this data.
    """
    task = kind(options["source"]) is not None
    if tokenizer is not None:
        _check_vocabulary(options, task, tokenizer)
    return Questions(tasks.create(options)) if task else corpus.prepare(options, cache, tokenizer, progress)


def _check_vocabulary(options: dict, task: bool, tokenizer: Tokenizer) -> None:
    name, small = options["name"], tokenizer.vocab_size < SMALLEST_VOCABULARY  # that of the tasks
    numbers = isinstance(tokenizer, NumberTokenizer)
    if options["source"] == "tokens":  # says itself what fits
        return
    if numbers:
        raise DataError(
            f"data={name}: this model was trained on token ids of which nobody knows what they stand for.\n"
            "Measure it on such files: data=tokens data.path=FILE."
        )
    if task and not small:
        raise DataError(
            f"data={name} is a task with a vocabulary of its own, and this model was trained on text.\n"
            f"Measure it on text, or train a model with data={name}."
        )
    if small and not task:
        raise DataError(
            f"data={name} is text, and this model was trained on a task: it has no token for most characters.\n"
            "Measure it on its own task, or train a model on text."
        )
