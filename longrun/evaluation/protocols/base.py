"""A protocol: which tokens of a data set are fed, which are scored, and what is reported besides the usual figures.

One protocol is one file here, `class LastK(Protocol)` in last_k.py. Its name is stored with every number.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from data.corpus import Corpus
from data.windows import Selection, Windows
from longrun.base.errors import DataError
from longrun.evaluation.token_scores import Row, Scored


class Protocol:
    """options: an object with the keys of the evaluation (`EvalConfig`) as attributes."""

    keys: tuple[str, ...] = ()  # the keys that decide what is fed and scored; they are stored with the numbers

    def __init__(self, options: Any):
        self.options = options

    @property
    def label(self) -> str:
        """What results are filed under."""
        return self.options.protocol

    def select(self, data: Any, lengths: list[int]) -> dict[int, Selection | DataError]:
        """What to feed and score at each length; an error for a length at which there is nothing to ask.

        Raises DataError if that is so at all of them, or the data is of another kind.
        """
        raise NotImplementedError

    def facts(self, length: int) -> Row:
        """Of the row of a length, besides the figures."""
        return {}

    def parts(self, scored: Scored, selection: Selection, length: int, train_length: int) -> dict[str, list[Row]]:
        """Figures of parts of the scored tokens, to be stored beside the rows: {name: rows}."""
        return {}

    def judge(self, written: list[np.ndarray], selection: Selection, length: int) -> Row:
        """Figures of what the model wrote by itself in place of each window's targets."""
        windows = selection.windows
        spans = zip(written, windows.score_start.tolist(), windows.score_end.tolist(), strict=True)
        return {"generated_matches": sum(np.array_equal(text, selection.tokens[a:b]) for text, a, b in spans)}


class TextProtocol(Protocol):
    """Windows over the documents of a split. A subclass defines `windows`."""

    def select(self, data: Any, lengths: list[int]) -> dict[int, Selection | DataError]:
        tokens, offsets = text_of(data, self.options)
        return {n: Selection(tokens, offsets, windows) for n, windows in self.windows(offsets, lengths).items()}

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, Windows]:
        raise NotImplementedError


def text_of(data: Any, options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and documents of the split that is measured. Raises DataError if the data is not text."""
    if not isinstance(data, Corpus):
        raise DataError(
            f"protocol={options.protocol} reads documents, and data={data.provenance['options']['name']} is a task.\n"
            f"Try protocol={data.protocol}"
        )
    return data.tokens(options.split), data.documents(options.split)


def names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "base"))


def create(options: Any) -> Protocol:
    """The protocol that options.protocol names."""
    name = options.protocol
    assert name in names(), name
    found = importlib.import_module(f".{name}", __package__)
    return getattr(found, "".join(map(str.capitalize, name.split("_"))))(options)
