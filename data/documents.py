"""Documents: named texts, held in memory or read in pieces."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .import_warnings import ImportWarnings
from .utf8 import decode_file


class Document(NamedTuple):
    """`name` decides the split of a document, so it must not depend on the machine or on the order of documents."""

    name: str
    text: "str | LongText"


class Size(NamedTuple):
    characters: int
    bytes: int  # in UTF-8
    blank: bool  # white space only


class LongText:
    """Text of a file that is too long for memory. Each iteration over `pieces` reads the file again."""

    def __init__(self, path: Path, name: str, policy: str, warnings: ImportWarnings):
        self.path, self.name, self.policy, self.warnings = path, name, policy, warnings

    def pieces(self) -> Iterator[str]:
        return read_text(self.path, self.name, self.policy, ImportWarnings())

    @cached_property
    def size(self) -> Size:
        characters, size, blank = 0, 0, True
        for piece in read_text(self.path, self.name, self.policy, self.warnings):
            characters += len(piece)
            size += len(piece.encode())
            blank = blank and not piece.strip()
        return Size(characters, size, blank)


def read_text(path: Path, name: str, policy: str, warnings: ImportWarnings) -> Iterator[str]:
    """Yield the text of a file in pieces; arguments as for `decode_file`."""
    with path.open("rb") as file:
        yield from decode_file(file, name, policy, warnings)


def content_name(text: str) -> str:
    """Name a document by a hash of its text: copies fall into one split, and a new document moves no other one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
