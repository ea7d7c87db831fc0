"""Scored tokens and their figures: every figure is a mean over tokens, or a share of questions."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

LN2 = math.log(2)
Row = dict[str, Any]


@dataclass(frozen=True)
class TokenScores:
    """One entry per scored token, ordered by window and position: parallel arrays. The columns of the parquet file."""

    document: np.ndarray  # number of the document in its split
    position: np.ndarray  # index of the target in its document
    window_position: np.ndarray  # index in the window of the token that predicts the target: the tokens before it
    token: np.ndarray
    bytes: np.ndarray  # bytes of the target's text
    nll: np.ndarray  # -ln p, float32
    hit: np.ndarray | None = None  # True where the target is the likeliest token; None: not computed

    def __getitem__(self, rows) -> "TokenScores":
        """The tokens that an index array or a mask selects."""
        return TokenScores(**{name: array[rows] for name, array in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in vars(self).items() if array is not None}


def empty() -> TokenScores:
    return TokenScores(*(np.zeros(0, t) for t in (np.int32, np.int32, np.int32, np.int32, np.int16, np.float32)))


def summary(scores: TokenScores) -> Row:
    """Token-weighted figures: nats per token, perplexity, bits per byte.

    Questions also have their number (`trials`) and the number of those with a correct answer (`matches`).
    """
    total, bytes_ = float(scores.nll.sum(dtype=np.float64)), int(scores.bytes.sum(dtype=np.int64))
    nll = total / len(scores.nll)
    row = {
        "tokens": len(scores.nll),
        "documents": len(np.unique(scores.document)),
        "nll": nll,
        "ppl": math.exp(min(nll, 700.0)),
        "bits_per_byte": total / LN2 / bytes_ if bytes_ else None,
    }
    return row if scores.hit is None else row | _exact_matches(scores, scores.hit)


def _exact_matches(scores: TokenScores, hit: np.ndarray) -> Row:
    """Count the questions whose every target is the likeliest token: those that greedy decoding answers correctly."""
    questions = np.unique(scores.document)
    missed = np.unique(scores.document[~hit])
    matches = len(questions) - len(missed)
    return {"trials": len(questions), "matches": matches, "exact": matches / len(questions)}
