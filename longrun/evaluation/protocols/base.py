"""A protocol: which tokens of a data set are fed, which are scored, and what is reported besides the usual figures.

One protocol is one file in this folder: last_k.py holds `class LastK(TextProtocol)`, a frozen dataclass. A field made
with `option` is a key of the evaluation: `eval.k` in train.py, `k` in eval.py. Options with the same name in several
protocols are one key and must be declared alike. The name of the protocol is stored with every number.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from data.corpus import Corpus
from data.tokenizers.base import Tokenizer
from data.windows import Selection, Windows
from longrun.base.errors import DataError
from longrun.evaluation.token_scores import Row, TokenScores

Selections = dict[int, Selection | DataError]


def option(
    doc: str,
    default: Any,
    *,
    default_for: Callable[[list[int]], Any] | None = None,
    within_window: bool = False,
    stored: bool = True,
    **rules: Any,
) -> Any:
    """A field that can be set with NAME=VALUE. Rules: choices, minimum, maximum, above, filled, example.

    default_for: the value that null stands for, a function of the evaluated lengths.
    within_window: the value is a number of tokens that must fit into the shortest window.
    stored: the value determines what is fed and scored, so it is stored with the results.
    """
    metadata = {"doc": doc, "default_for": default_for, "within_window": within_window, "stored": stored, **rules}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Protocol(ABC):
    """split, documents: keys that every evaluation has; documents=None stands for all of them."""

    split: str = "test"
    documents: int | None = None

    @classmethod
    def declared(cls) -> dict[str, Field]:
        """The options of the protocol by name."""
        return {item.name: item for item in fields(cls) if "doc" in item.metadata}

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @property
    def label(self) -> str:
        """The name of the files of results."""
        return self.name

    def stored_options(self) -> Row:
        """The options that determine what is fed and scored."""
        return {name: getattr(self, name) for name, item in self.declared().items() if item.metadata["stored"]}

    def with_defaults(self, lengths: list[int]) -> Self:
        """This protocol with a value for each option whose default depends on the evaluated lengths."""
        rules = {name: item.metadata["default_for"] for name, item in self.declared().items()}
        unset = {name: rule(lengths) for name, rule in rules.items() if rule and getattr(self, name) is None}
        return replace(self, **unset) if unset else self

    @abstractmethod
    def select(self, data: Any, lengths: list[int]) -> Selections:
        """Select the tokens to feed and score at each length; a DataError stands for a length without any.

        Raises DataError if no length has any, or if the data is of another kind.
        """

    def length_facts(self, selection: Selection) -> Row:
        """Entries of the row of a length, besides the figures."""
        return {}

    def breakdown(self, scores: TokenScores, selection: Selection, length: int, train_length: int) -> dict[str, list]:
        """Figures of subsets of the scored tokens, stored beside the rows: {name: rows}."""
        return {}


class TextProtocol(Protocol):
    """Windows over the documents of a split. A subclass defines `windows`."""

    def stored_options(self) -> Row:
        return {"documents": self.documents, **super().stored_options()}

    def select(self, data: Any, lengths: list[int]) -> Selections:
        tokens, offsets = read_text(data, self)
        return {n: Selection(tokens, offsets, windows) for n, windows in self.windows(offsets, lengths).items()}

    @abstractmethod
    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, Windows]:
        """The windows of each length, over documents that begin at `offsets` (`Corpus.documents`)."""


@dataclass(frozen=True)
class QuestionProtocol(Protocol):
    """Questions whose answers alone are scored, and may be generated as well."""

    trials: int = option("questions per length (and depth)", 100, minimum=1, example=100)
    generate: bool = option("also let the model write its answers, token by token", False, stored=False)

    def score_generation(self, generated: list[np.ndarray], selection: Selection, tokenizer: Tokenizer) -> Row:
        """Figures of the ids that the model generated in place of each window's targets."""
        windows = selection.windows
        spans = zip(generated, windows.score_start.tolist(), windows.score_end.tolist(), strict=True)
        return {"generated_matches": sum(np.array_equal(ids, selection.tokens[a:b]) for ids, a, b in spans)}


def read_text(data: Any, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and document offsets of the evaluated split. Raises DataError if the data is not text."""
    if not isinstance(data, Corpus):
        raise DataError(
            f"protocol={protocol.name} reads documents, and data={data.provenance['options']['name']} is a task.\n"
            f"Try protocol={data.protocol}"
        )
    return data.tokens(protocol.split), data.documents(protocol.split)
