from dataclasses import dataclass

from .copy import Copy


@dataclass(frozen=True)
class Reverse(Copy):
    """abca= -> acba"""

    def answer(self, question: str) -> str:
        return question[::-1]
