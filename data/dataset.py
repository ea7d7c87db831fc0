"""Data for training and evaluation: `corpus.Corpus` holds text, `tasks.dataset.TaskDataset` a task.

The key `source` of the `data` config group is the file name of a text source (data/sources) or of a task (data/tasks).
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Protocol

import yaml

from longrun.base.errors import DataError
from longrun.base.paths import CONFIGS

from . import corpus
from .options import TextOptions, check_keys, check_yaml, names
from .registry import class_name
from .sources import registry as text
from .sources.registry import sources
from .sources.tokens import Tokens
from .tasks.dataset import TaskDataset
from .tasks.registry import tasks
from .tokenizers.base import SMALLEST_VOCABULARY, Tokenizer, TokenizerTrainer
from .tokenizers.registry import complete_tokenizer, tokenizers, trainer_name
from .windows import Selection


class Batches(Protocol):
    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Any, Any]:
        """Return inputs and targets of one step, int64 tensors (rows of this rank, length), -100 where not scored.

        A function of (seed, step) alone; over all ranks the same rows, however many ranks there are.
        """
        ...


class Dataset(Protocol):
    """fingerprint: hexadecimal hash of the content.  provenance["options"]["name"]: its name in tables.
    tokens_per_byte: of the training text, to convert nats per token to bits per byte.
    protocol, ratios: default evaluation protocol, and its lengths as multiples of the training length."""

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
        """Select about `count` windows of the validation split, at the training length."""
        ...


def options_class(source: Any) -> type:
    """Return the dataclass of the options of a text source or a task. None stands for any text source.

    Raises DataError if there is no such file, or if it is wrong.
    """
    if source is None:
        return TextOptions
    if source in tasks:
        return tasks.load(source)
    if source in sources:
        return text.options_class(source)
    near = (tasks if tasks.suggestion(source, otherwise="none") != "none" else sources).suggestion(
        source, "data.source="
    )
    raise DataError(
        f"data.source={source}: there is neither data/sources/{source}.py nor data/tasks/{source}.py.\n{near}\n"
        f"Sources: {', '.join(sources.names())}. Tasks: {', '.join(tasks.names())}."
    )


def dataset_class(source: Any) -> type[corpus.Corpus] | type[TaskDataset]:
    """Return the class of the data set; its `protocol` and `ratios` are the default evaluation."""
    return TaskDataset if source in tasks else corpus.Corpus


def complete(options: dict) -> dict:
    """Return the options with those of the tokenizer.

    Raises DataError if configs/data/<name>.yaml and the class of the source disagree, or those of the tokenizer.
    """
    known = options_class(options.get("source"))
    _check_yaml(options, known)
    choice = options.get("tokenizer")
    if choice is None or "tokenizer" not in names(known):
        return options
    return {**options, "tokenizer": complete_tokenizer(choice)}


def _check_yaml(options: dict, known: type) -> None:
    """Raise DataError if the YAML file of the options and the class of the source declare different keys.

    A wrong key of the command line is left to the validation of the configuration.
    """
    source, required = options.get("source"), [item.name for item in fields(known) if item.default is MISSING]
    if source is None or set(required) <= options.keys() <= set(names(known)):
        return
    where = f"class {class_name(source)} in data/{'tasks' if source in tasks else 'sources'}/{source}.py"
    for path in sorted((CONFIGS / "data").glob("*.yaml")):
        values = yaml.safe_load(path.read_text()) or {}
        if (values.get("name"), values.get("source")) == (options.get("name"), source):
            check_yaml(f"configs/data/{path.name}", values, options, fields(known), where)


def trainer_class(choice: Any) -> type[TokenizerTrainer]:
    """Return the dataclass of the options of the tokenizer that data.tokenizer names."""
    return tokenizers.load(trainer_name(choice))


def check(options: dict) -> None:
    """Raise DataError for all errors in the options that can be found without reading text."""
    if options["source"] not in tasks:
        text.create_source(options)


def prepare(
    options: dict, cache: Path | None = None, tokenizer: Tokenizer | None = None, progress: bool = True
) -> Dataset:
    """Open the data that the options describe. Arguments as for `corpus.prepare`.

    tokenizer: that of the model that will be evaluated. Raises DataError if it cannot encode this data.
    """
    task = options["source"] in tasks
    if tokenizer is not None:
        _check_vocabulary(options, tokenizer)
    if not task:
        return corpus.prepare(options, cache, tokenizer, progress)
    known = tasks.load(options["source"])
    check_keys(options, known)
    return TaskDataset(known(**options))


def _check_vocabulary(options: dict, tokenizer: Tokenizer) -> None:
    """Raise DataError if a model with this tokenizer was trained on another kind of data."""
    name, task = options["name"], options["source"] in tasks
    if options["source"] in sources and issubclass(sources.load(options["source"]), Tokens):
        return  # checked by Tokens.tokenizer
    if not tokenizer.has_text:
        raise DataError(
            f"data={name}: this model was trained on raw token ids without a tokenizer.\n"
            "Measure it on such files: data=tokens data.path=FILE."
        )
    trained_on_task = tokenizer.vocab_size < SMALLEST_VOCABULARY
    if task and not trained_on_task:
        raise DataError(
            f"data={name} is a task with a vocabulary of its own, and this model was trained on text.\n"
            f"Measure it on text, or train a model with data={name}."
        )
    if trained_on_task and not task:
        raise DataError(
            f"data={name} is text, and this model was trained on a task: it has no token for most characters.\n"
            "Measure it on its own task, or train a model on text."
        )
