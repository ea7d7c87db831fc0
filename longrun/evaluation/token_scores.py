"""Scored tokens and what is said about them: every figure is a mean over tokens, or a share of questions."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

LN2 = math.log(2)
Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """One entry a scored token, ordered by window and place: parallel arrays."""

    document: np.ndarray  # number of the document in its split
    position: np.ndarray  # index of the target in its document
    window_position: np.ndarray  # index in the window of the token that predicts it; it sees that many tokens before
    token: np.ndarray
    bytes: np.ndarray  # of text that the target stands for
    nll: np.ndarray  # -ln p, float32
    hit: np.ndarray | None = None  # whether the target is the likeliest token; only where that is asked for

    def __getitem__(self, rows) -> "Scored":
        """The tokens that an index array or a mask selects."""
        return Scored(**{name: array[rows] for name, array in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in vars(self).items() if array is not None}


def nothing() -> Scored:
    return Scored(*(np.zeros(0, t) for t in (np.int32, np.int32, np.int32, np.int32, np.int16, np.float32)))


def summary(scored: Scored) -> Row:
    """Token-weighted figures: nats a token, perplexity, bits a byte. Questions also have the number of them (`trials`)
    and of those with the right answer from the first token to the last (`matches`)."""
    total, bytes_ = float(scored.nll.sum(dtype=np.float64)), int(scored.bytes.sum(dtype=np.int64))
    nll = total / len(scored.nll)
    row = {
        "tokens": len(scored.nll),
        "documents": len(np.unique(scored.document)),
        "nll": nll,
        "ppl": math.exp(min(nll, 700.0)),
        "bits_per_byte": total / LN2 / bytes_ if bytes_ else None,
    }
    return row if scored.hit is None else row | exact(scored)


def exact(scored: Scored) -> Row:
    """Questions whose every target is the likeliest token: what greedy decoding would write, as long as it is right."""
    assert scored.hit is not None
    questions = np.unique(scored.document)
    missed = np.unique(scored.document[~scored.hit])
    matches = len(questions) - len(missed)
    return {"trials": len(questions), "matches": matches, "exact": matches / len(questions)}
