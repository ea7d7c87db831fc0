from dataclasses import dataclass

from .copy import Copy


@dataclass(frozen=True)
class Sort(Copy):
    """cabb= -> abbc, a to z before A to Z"""

    def answer(self, question: str) -> str:
        return "".join(sorted(question, key=lambda letter: (letter.isupper(), letter)))
