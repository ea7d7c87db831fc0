"""Plain text files, of any size: a document a file, or cut where a separator matches."""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from longrun.base.errors import DataError

from .base import Document, Source, content_name
from .notes import Notes
from .utf8 import decoded

LONG = 1 << 24  # bytes: the text of a longer file is not held
REACH = 1 << 16  # characters that a separator may match, with what it looks at around it


class Text(Source):
    """Plain text files; in front of each match of `separator`, a regular expression, a document starts."""

    def check(self) -> None:
        super().check()
        try:
            re.compile(self.options.get("separator") or "")
        except re.error as error:
            raise DataError(
                f"data.separator={self.options['separator']} is not a regular expression: {error}.\n"
                "For example 'data.separator=\"^ = [^=]\"' cuts in front of WikiText's titles."
            ) from None

    def documents(self, notes: Notes) -> Iterator[Document]:
        separator = self.options.get("separator")
        for path in self.files:
            if separator is not None:
                pieces = read(path, self.relative(path), self.invalid_utf8, notes)
                for text in cut_at(re.compile(separator, re.MULTILINE), pieces):
                    yield Document(content_name(text), text)
            elif path.stat().st_size > LONG:
                yield Document(self.relative(path), LongText(path, self.relative(path), self.invalid_utf8, notes))
            else:
                pieces = read(path, self.relative(path), self.invalid_utf8, notes)
                yield Document(self.relative(path), "".join(pieces))


class Size(NamedTuple):
    characters: int
    bytes: int  # in UTF-8
    blank: bool  # nothing but white space


class LongText:
    """The text of a file that is too long to hold: read anew, piece by piece, each time it is asked for."""

    def __init__(self, path: Path, name: str, policy: str, notes: Notes):
        self.path, self.name, self.policy, self.notes = path, name, policy, notes

    def pieces(self) -> Iterator[str]:
        return read(self.path, self.name, self.policy, Notes())

    @cached_property
    def size(self) -> Size:
        characters, size, blank = 0, 0, True
        for piece in read(self.path, self.name, self.policy, self.notes):
            characters += len(piece)
            size += len(piece.encode())
            blank = blank and not piece.strip()
        return Size(characters, size, blank)


def read(path: Path, name: str, policy: str, notes: Notes) -> Iterator[str]:
    with path.open("rb") as file:
        yield from decoded(file, name, "files", policy, notes)


def cut_at(separator: re.Pattern[str], pieces: Iterable[str]) -> Iterator[str]:
    """The text of `pieces`, cut in front of every match, as if it were in one piece.

    Holds one document and one piece. A match near the end of what has been read is looked for again when more is
    there, because it might then be another.
    """
    text, done = "", 0  # done: there is no further match in front of it
    for piece in chain(pieces, [None]):
        text += piece or ""
        safe = len(text) if piece is None else len(text) - REACH
        start = 0
        for match in separator.finditer(text, min(done, len(text))):
            if match.start() >= safe and piece is not None:
                break
            if match.start() > start:
                yield text[start : match.start()]
            start, done = match.start(), match.end()
        done = max(done, safe, 0) - start
        text = text[start:]
    if text:
        yield text
