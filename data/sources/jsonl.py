"""JSON lines: one object per line, gzip-compressed or not."""

import gzip
import json
from collections.abc import Iterator
from typing import ClassVar

from longrun.base.errors import DataError

from ..documents import Document
from ..import_warnings import ImportWarnings
from ..utf8 import decode_line
from .base import FileSource
from .rows import document_of, text_of


class Jsonl(FileSource):
    """One JSON object per line; `text_field` holds the text, a field "id" names the document.

    Not read with `datasets`: only an own reader can name the line of an error, and the other fields may hold anything.
    A line that is not such a row is refused, or skipped and counted with data.bad_lines=skip.
    """

    required: ClassVar[tuple[str, ...]] = ("tokenizer", "pattern", "text_field")

    def documents(self, warnings: ImportWarnings) -> Iterator[Document]:
        skip, any_valid, first_error = self.options.get("bad_lines") == "skip", False, None
        for place, line in self.lines(warnings):
            try:
                row = _parse(line, place)
                document = document_of(text_of(row, self.options["text_field"], place), row)
            except DataError as error:
                if not skip:
                    raise DataError(f"{error} Or skip such lines: data.bad_lines=skip.") from None
                warnings.add("lines that are no rows skipped", place)
                first_error = first_error or error
                continue
            any_valid = True
            yield document
        if first_error and not any_valid:
            raise first_error  # an option is more likely wrong than every line

    def lines(self, warnings: ImportWarnings) -> Iterator[tuple[str, str]]:
        """Yield FILE:LINE and text of each line that is not blank."""
        for path in self.files:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        place = f"{path}:{number}"
                        yield place, decode_line(line, place, self.invalid_utf8, warnings)


def _parse(line: str, place: str) -> dict:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f'{place} is not JSON: {error}.\nEvery line must be one object, such as {{"text": "..."}}.'
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f'{place} holds a {type(row).__name__}, not an object.\nEach line must be like {{"text": "..."}}.'
        )
    return row
