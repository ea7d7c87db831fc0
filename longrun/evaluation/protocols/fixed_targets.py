import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol


class FixedTargets(TextProtocol):
    """The same target tokens after contexts of every length (`windows.fixed_targets`)."""

    keys = ("documents", "targets", "blocks")

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        own = self.options
        return w.fixed_targets(offsets, lengths, own.targets, own.documents, own.blocks)
