from dataclasses import dataclass

import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol, option


@dataclass(frozen=True)
class LastK(TextProtocol):
    """Disjoint windows, the last k predictions of each scored (`windows.last_k`)."""

    k: int = option("scored tokens per window", 64, within_window=True, minimum=1, example=64)

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        return {n: w.last_k(offsets, n, self.k, self.documents, max(lengths) + 1) for n in lengths}
