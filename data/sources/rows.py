"""Documents from rows: a field holds the text, a field "id" names the document."""

import re
from collections.abc import Iterable, Iterator

from longrun.base.errors import DataError

from ..documents import Document, content_name


def text_of(row: dict, field: str, place: str) -> str:
    """Return the text of a row, "" for null. Raises DataError if the field is missing or does not hold text."""
    if field not in row:
        raise DataError(
            f"{place} has no field {field} (data.text_field); it has {', '.join(sorted(row)) or 'none'}.\n"
            "Set data.text_field to the one that holds the text."
        )
    text = row[field]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{place}: field {field} (data.text_field) holds a {type(text).__name__}.\nIt must hold text.")
    return text or ""


def document_of(text: str, row: dict) -> Document:
    """Name the document of a row by its "id" if that is a string or a number, else by its content."""
    name = row.get("id")
    return Document(str(name) if isinstance(name, str | int) else content_name(text), text)


def join_lines(rows: Iterable[str], separator: str) -> Iterator[str]:
    """Join rows that hold one line each into documents; a document starts at each row that `separator` matches."""
    starts = re.compile(separator).search
    lines: list[str] = []
    for row in rows:
        if starts(row) and "".join(lines).strip():
            yield "".join(lines)
            lines = []
        lines.append(row)
    yield "".join(lines)
