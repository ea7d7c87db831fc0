"""Which part of a corpus a document, or a piece of it, belongs to."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from longrun.base.errors import DataError

SPLITS = ("train", "valid", "test")
FEWEST_DOCUMENTS = 10


@dataclass(frozen=True)
class SplitRule:
    """`by` is "document" (a hash of its name decides) or "position" (each is cut into head, middle and tail).

    Hashing makes the split of a document independent of all others and of the machine; because test documents
    are taken from one end of [0, 1), changing `valid` moves none of them.
    """

    by: str
    valid: float
    test: float
    reason: str = ""

    def fractions(self) -> dict[str, float]:
        return {"train": max(0.0, 1 - self.valid - self.test), "valid": self.valid, "test": self.test}

    def wanted(self) -> set[str]:
        """Splits that must not be empty; a fraction of 0 is a split that nobody asked for."""
        return {split for split, fraction in self.fractions().items() if fraction > 1e-9}

    def split_of(self, name: str) -> str:
        place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8]) / 2**64
        if place < self.test:
            return "test"
        return "valid" if place < self.test + self.valid or "train" not in self.wanted() else "train"

    def ranges(self, name: str, size: int) -> list[tuple[str, int, int]]:
        """(split, start, stop) of each part of a document of `size` characters or tokens; together they are it."""
        if self.by == "document":
            return [(self.split_of(name), 0, size)]
        head = round(size * (1 - self.valid - self.test))
        tail = round(size * (1 - self.test))
        parts = zip(SPLITS, (0, head, tail), (head, tail, size), strict=True)
        return [(split, start, stop) for split, start, stop in parts if start < stop]

    def describe(self) -> dict:
        return asdict(self)


def plan(names: Iterable[str], valid: float, test: float) -> SplitRule:
    """By document, unless that leaves a split empty or there are fewer than ten documents.

    Reads only as many names as it takes to see that every split has a document.
    """
    rule = SplitRule("document", valid, test)
    missing, count = rule.wanted(), 0
    for count, name in enumerate(names, 1):
        missing.discard(rule.split_of(name))
        if not missing and count >= FEWEST_DOCUMENTS:
            return rule
    if not count:
        raise DataError("The corpus holds no text: every document is empty.\nPoint data.path at files that have text.")
    if len(rule.wanted()) == 1:
        return rule  # nothing to divide
    reason = (
        f"fewer than {FEWEST_DOCUMENTS} documents"
        if count < FEWEST_DOCUMENTS
        else f"no document in {', '.join(sorted(missing))}"
    )
    return SplitRule("position", valid, test, reason)
