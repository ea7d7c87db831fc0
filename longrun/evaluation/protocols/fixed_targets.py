from dataclasses import dataclass

import numpy as np

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol, option


@dataclass(frozen=True)
class FixedTargets(TextProtocol):
    """The same target tokens after contexts of every length (`windows.fixed_targets`)."""

    targets: int | None = option(
        "tokens in a scored block; null = the shortest length, at most 64",
        None,
        default_for=lambda lengths: min(64, *lengths),
        within_window=True,
        minimum=1,
        example=64,
    )
    blocks: int = option("scored blocks per document", 4, minimum=1, example=16)

    def windows(self, offsets: np.ndarray, lengths: list[int]) -> dict[int, w.Windows]:
        targets = self.with_defaults(lengths).targets
        assert targets is not None
        return w.fixed_targets(offsets, lengths, targets, self.documents, self.blocks)
