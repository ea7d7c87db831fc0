from dataclasses import dataclass

import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol, option


@dataclass(frozen=True)
class Sliding(TextProtocol):
    """Windows that advance by a stride and score what is new in them (`windows.sliding`)."""

    stride: int | None = option(
        "tokens between windows; null = half of the length", None, within_window=True, minimum=1, example=64
    )

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        longest, strides = max(lengths), {n: self.stride or max(1, n // 2) for n in lengths}
        return {n: w.sliding(offsets, n, strides[n], self.documents, longest + 1) for n in lengths}
