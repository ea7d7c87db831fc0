import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol
from longrun.evaluation.token_scores import Row, Scored, summary


class PerPosition(TextProtocol):
    """Disjoint full windows, all scored, also in buckets of the position (`windows.per_position`)."""

    keys = ("documents",)

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        return {n: w.per_position(offsets, n, self.options.documents, max(lengths) + 1) for n in lengths}

    def parts(self, scored: Scored, selection: w.Selection, length: int, train_length: int) -> dict[str, list[Row]]:
        """Buckets (0, L], (L, 2L], ... where L is the training length: where in the window does it break?"""
        bucket = scored.window_position // train_length
        rows = []
        for number in np.unique(bucket).tolist():
            limits = {"from": number * train_length, "to": min((number + 1) * train_length, length)}
            rows.append({"length": length, **limits, **summary(scored[bucket == number])})
        return {"buckets": rows}
