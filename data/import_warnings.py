"""Counts of what was skipped or replaced while a corpus was read."""

from collections import Counter


class ImportWarnings(Counter):
    """Number of occurrences per kind; `first` holds the place of the first one, where a place exists."""

    def __init__(self):
        super().__init__()
        self.first: dict[str, str] = {}

    def add(self, kind: str, place: str) -> None:
        """Count one occurrence at `place`, such as FILE:LINE."""
        self[kind] += 1
        self.first.setdefault(kind, place)

    def lines(self) -> list[str]:
        """Messages for the user, one per kind that has a place."""
        return [f"{kind}: {self[kind]}, the first is {place}" for kind, place in sorted(self.first.items())]
