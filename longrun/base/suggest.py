"""Suggestions for a mistyped word: "did you mean ...?"."""

import difflib
from collections.abc import Iterable


def suggest(word: str, choices: Iterable[str]) -> list[str]:
    """Up to three of `choices` that resemble `word`, the best one first.

    Case is ignored. A dotted choice also matches by its last part: `lr` suggests `optim.lr`.
    """
    names = list(choices)
    by_name = {name.lower(): name for name in names}
    by_last_part = {name.rsplit(".", 1)[-1].lower(): name for name in reversed(names)}
    near = [by_name[match] for match in difflib.get_close_matches(word.lower(), by_name, n=3, cutoff=0.72)]
    last_part = word.rsplit(".", 1)[-1].lower()
    near += [by_last_part[match] for match in difflib.get_close_matches(last_part, by_last_part, n=2, cutoff=0.75)]
    return list(dict.fromkeys(near))[:3]
