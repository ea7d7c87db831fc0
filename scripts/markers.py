"""Generated parts of a page stand between `<!-- NAME: start -->` and `<!-- NAME: end -->`."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from configs.errors import ConfigError


def renew(path: Path, parts: Mapping[str, Callable[[], str]]) -> bool:
    """Put the text of each part between its markers, where the page has them; whether that changed the file.

    Raises ConfigError if there is no such file, or if it has the markers of none of the parts.
    """
    if not path.is_file():
        raise ConfigError(f"--write {path}: there is no such file.")
    before = path.read_text(encoding="utf-8")
    after, found = before, 0
    for name, make in parts.items():
        between = re.compile(f"(<!-- {name}: start[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        if between.search(after):
            made = make()
            after = between.sub(lambda marks, made=made: f"{marks[1]}{made}\n{marks[2]}", after)
            found += 1
    if not found:
        first = next(iter(parts))
        raise ConfigError(
            f"--write {path}: it has no place for the {first}.\n"
            f"Put the lines <!-- {first}: start --> and <!-- {first}: end --> into it"
        )
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before
