from dataclasses import dataclass

import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol
from longrun.evaluation.token_scores import TokenScores, summary


@dataclass(frozen=True)
class PerPosition(TextProtocol):
    """Disjoint full windows, all scored, also in buckets of the position (`windows.per_position`)."""

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        return {n: w.per_position(offsets, n, self.documents, max(lengths) + 1) for n in lengths}

    def breakdown(self, scores: TokenScores, selection: w.Selection, length: int, train_length: int) -> dict[str, list]:
        """Buckets (0, L], (L, 2L], ... of the position in the window, where L is the training length."""
        bucket = scores.window_position // train_length
        rows = []
        for number in np.unique(bucket).tolist():
            limits = {"from": number * train_length, "to": min((number + 1) * train_length, length)}
            rows.append({"length": length, **limits, **summary(scores[bucket == number])})
        return {"buckets": rows}
