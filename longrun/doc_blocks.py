"""Generated blocks of a page, between `<!-- NAME: start -->` and `<!-- NAME: end -->`."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from longrun.base.errors import ConfigError


def block_pattern(name: str) -> re.Pattern[str]:
    """Pattern of a block with its markers, which are the two groups."""
    return re.compile(f"(<!-- {re.escape(name)}: start[^>]*-->\n).*?(<!-- {re.escape(name)}: end -->)", re.DOTALL)


def update_blocks(path: Path, blocks: Mapping[str, Callable[[], str]], noun: str | None = None) -> bool:
    """Write the text of each block between its markers, where the page has them; True if the file changed.

    noun: name of the blocks in an error message; default: the name of the first.
    Raises ConfigError if there is no such file, or if it has the markers of none of the blocks.
    """
    if not path.is_file():
        raise ConfigError(f"--write {path}: there is no such file.")
    before = path.read_text(encoding="utf-8")
    present = {name: text for name, text in blocks.items() if block_pattern(name).search(before)}
    if not present:
        first = next(iter(blocks))
        raise ConfigError(
            f"--write {path}: it has no place for the {noun or first}.\n"
            f"Put the lines <!-- {first}: start --> and <!-- {first}: end --> into it"
        )
    after = before
    for name, make_text in present.items():
        text = make_text()
        after = block_pattern(name).sub(lambda marks, text=text: f"{marks[1]}{text}\n{marks[2]}", after)
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before
