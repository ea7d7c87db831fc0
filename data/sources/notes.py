"""What was skipped or replaced while a corpus was read: how often, and where first."""

from collections import Counter


class Notes(Counter):
    """Counts by what happened; `first` has the place of the first of each, where a place is known."""

    def __init__(self):
        super().__init__()
        self.first: dict[str, str] = {}

    def add(self, what: str, place: str) -> None:
        self[what] += 1
        self.first.setdefault(what, place)

    def lines(self) -> list[str]:
        """A line for everything that has a place: what a user should know."""
        return [f"{what}: {self[what]}, the first is {place}" for what, place in sorted(self.first.items())]
