from dataclasses import dataclass

import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol


@dataclass(frozen=True)
class Nonoverlap(TextProtocol):
    """Disjoint windows, every token scored (`windows.nonoverlap`)."""

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        return {n: w.nonoverlap(offsets, n, self.documents, max(lengths) + 1) for n in lengths}
