"""Assignment of documents, or of parts of documents, to the splits of a corpus."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from longrun.base.errors import DataError

SPLITS = ("train", "valid", "test")
FEWEST_DOCUMENTS = 10


@dataclass(frozen=True)
class SplitRule:
    """`by` is "document" (a hash of its name decides) or "position" (each is cut into head, middle and tail).

    With a hash the split of a document is independent of all others and of the machine. Test documents are taken from
    one end of [0, 1), so a change of `valid` moves none of them.
    """

    by: str
    valid: float
    test: float
    reason: str = ""

    def fractions(self) -> dict[str, float]:
        return {"train": max(0.0, 1 - self.valid - self.test), "valid": self.valid, "test": self.test}

    def nonempty(self) -> set[str]:
        """Splits with a fraction above 0, which must hold tokens."""
        return {split for split, fraction in self.fractions().items() if fraction > 1e-9}

    def split_of(self, name: str) -> str:
        place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8]) / 2**64
        if place < self.test:
            return "test"
        return "valid" if place < self.test + self.valid or "train" not in self.nonempty() else "train"

    def ranges(self, name: str, size: int) -> list[tuple[str, int, int]]:
        """Return (split, start, stop) of each part of a document of `size` characters or tokens; they cover it."""
        if self.by == "document":
            return [(self.split_of(name), 0, size)]
        head = round(size * (1 - self.valid - self.test))
        tail = round(size * (1 - self.test))
        parts = zip(SPLITS, (0, head, tail), (head, tail, size), strict=True)
        return [(split, start, stop) for split, start, stop in parts if start < stop]

    def describe(self) -> dict:
        return asdict(self)


def choose_split_rule(names: Iterable[str], valid: float, test: float) -> SplitRule:
    """Split by document, or by position if a split would be empty or there are fewer than ten documents.

    Consumes `names` only until every split has a document. Raises DataError if there is no document.
    """
    rule = SplitRule("document", valid, test)
    missing, count = rule.nonempty(), 0
    for count, name in enumerate(names, 1):
        missing.discard(rule.split_of(name))
        if not missing and count >= FEWEST_DOCUMENTS:
            return rule
    if not count:
        raise DataError("The corpus holds no text: every document is empty.\nPoint data.path at files that have text.")
    if len(rule.nonempty()) == 1:
        return rule  # a single split
    reason = (
        f"fewer than {FEWEST_DOCUMENTS} documents"
        if count < FEWEST_DOCUMENTS
        else f"no document in {', '.join(sorted(missing))}"
    )
    return SplitRule("position", valid, test, reason)
