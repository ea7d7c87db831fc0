import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol


class LastK(TextProtocol):
    """Disjoint windows, the last k predictions of each scored (`windows.last_k`)."""

    keys = ("documents", "k")

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        own, longest = self.options, max(lengths)
        return {n: w.last_k(offsets, n, own.k, own.documents, longest + 1) for n in lengths}
