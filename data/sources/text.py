"""Plain text files of any size: one document per file, or cut where a separator matches."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from longrun.base.errors import DataError

from ..documents import Document, LongText, content_name, read_text
from ..import_warnings import ImportWarnings
from .base import FileSource

LONG = 1 << 24  # bytes: a longer file is read in pieces
REACH = 1 << 16  # characters that a match of the separator may span, lookahead included


class Text(FileSource):
    """Plain text files. A document starts at each match of the regular expression `separator`."""

    def check(self) -> None:
        super().check()
        try:
            re.compile(self.options.get("separator") or "")
        except re.error as error:
            raise DataError(
                f"data.separator={self.options['separator']} is not a regular expression: {error}.\n"
                "For example 'data.separator=\"^ = [^=]\"' cuts in front of WikiText's titles."
            ) from None

    def documents(self, warnings: ImportWarnings) -> Iterator[Document]:
        separator = self.options.get("separator")
        for path in self.files:
            name = self.relative(path)
            if separator is not None:
                pieces = read_text(path, name, self.invalid_utf8, warnings)
                for text in split_text(re.compile(separator, re.MULTILINE), pieces):
                    yield Document(content_name(text), text)
            elif path.stat().st_size > LONG:
                yield Document(name, LongText(path, name, self.invalid_utf8, warnings))
            else:
                yield Document(name, "".join(read_text(path, name, self.invalid_utf8, warnings)))


def split_text(separator: re.Pattern[str], pieces: Iterable[str]) -> Iterator[str]:
    """Cut the concatenation of `pieces` in front of every match.

    Memory holds one document and one piece. A match near the end of the text read so far is searched again after the
    next piece, because more text may change it.
    """
    text, done = "", 0  # done: no further match starts in front of it
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
