"""Generated parts of a page stand between `<!-- NAME: start -->` and `<!-- NAME: end -->`."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from longrun.base.errors import ConfigError


def between(name: str) -> re.Pattern[str]:
    """What matches a part with its markers; they are the two groups."""
    return re.compile(f"(<!-- {re.escape(name)}: start[^>]*-->\n).*?(<!-- {re.escape(name)}: end -->)", re.DOTALL)


def renew(path: Path, parts: Mapping[str, Callable[[], str]], called: str | None = None) -> bool:
    """Put the text of each part between its markers, where the page has them; whether that changed the file.

    called: what a message calls the parts, if not by the name of the first.
    Raises ConfigError if there is no such file, or if it has the markers of none of the parts.
    """
    if not path.is_file():
        raise ConfigError(f"--write {path}: there is no such file.")
    before = path.read_text(encoding="utf-8")
    after, found = before, 0
    for name, make in parts.items():
        if between(name).search(after):
            made = make()
            after = between(name).sub(lambda marks, made=made: f"{marks[1]}{made}\n{marks[2]}", after)
            found += 1
    if not found:
        first = next(iter(parts))
        raise ConfigError(
            f"--write {path}: it has no place for the {called or first}.\n"
            f"Put the lines <!-- {first}: start --> and <!-- {first}: end --> into it"
        )
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before
