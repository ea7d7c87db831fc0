import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol


class Sliding(TextProtocol):
    """Windows that advance by a stride and score what is new in them (`windows.sliding`)."""

    keys = ("documents", "stride")

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        own, longest = self.options, max(lengths)
        strides = {n: own.stride or max(1, n // 2) for n in lengths}
        return {n: w.sliding(offsets, n, strides[n], own.documents, longest + 1) for n in lengths}
