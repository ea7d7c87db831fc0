"""Documents that are rows: JSON lines and parquet."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from longrun.base.errors import DataError

from .base import Document, Source, content_name
from .notes import Notes
from .utf8 import line_of

_ROWS = 256  # decoded at a time


class JsonLines(Source):
    """One JSON object a line, gzip or not; `text_field` holds the text, a field "id" names the document.

    Read by ourselves and not by `datasets`: only here does an error know its line, and fields beside the text
    may hold anything. A line that is no such row is refused, or with data.bad_lines=skip left out and counted.
    """

    def documents(self, notes: Notes) -> Iterator[Document]:
        skip, good, first = self.options.get("bad_lines") == "skip", False, None
        for place, line in self.lines(notes):
            try:
                row = _parse(line, place)
                document = named(text_of(row, self.options["text_field"], place), row)
            except DataError as error:
                if not skip:
                    raise DataError(f"{error} Or leave such lines out: data.bad_lines=skip.") from None
                notes.add("lines that are no rows skipped", place)
                first = first or error
                continue
            good = True
            yield document
        if first and not good:
            raise first  # most likely an option is wrong, and not every line

    def lines(self, notes: Notes) -> Iterator[tuple[str, str]]:
        """Where each line is, and its text; blank lines left out."""
        for path in self.files:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        place = f"{path}:{number}"
                        yield place, line_of(line, place, self.invalid_utf8, notes)


class Parquet(Source):
    """Parquet files; columns as for JSON lines.

    Read with pyarrow and not with `datasets`, whose streaming reads ahead: for 200 MB of text it took 500 MB more.
    """

    def documents(self, notes: Notes) -> Iterator[Document]:
        import pyarrow

        for path in self.files:
            try:
                for row in self.rows(path):
                    yield named(text_of(row, self.options["text_field"], str(path)), row)
            except (OSError, pyarrow.ArrowException) as error:
                raise DataError(
                    f"data.path={path} cannot be read as parquet: {error}.\n"
                    "Check that every file is a whole parquet file."
                ) from error

    def rows(self, path: Path) -> Iterator[dict]:
        from pyarrow.parquet import ParquetFile

        field = self.options["text_field"]
        with ParquetFile(path) as file:
            columns = file.schema_arrow.names
            text_of(dict.fromkeys(columns, ""), field, str(path))
            wanted = [field, "id"] if "id" in columns and field != "id" else [field]
            for group in range(file.num_row_groups):  # all at once would keep what was read of those before
                batches = file.iter_batches(_ROWS, row_groups=[group], columns=wanted, use_threads=False)
                for batch in batches:
                    yield from batch.to_pylist()


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


def text_of(row: dict, field: str, place: str) -> str:
    """The text of a row, "" for null."""
    if field not in row:
        raise DataError(
            f"{place} has no field {field} (data.text_field); it has {', '.join(sorted(row)) or 'none'}.\n"
            "Set data.text_field to the one that holds the text."
        )
    text = row[field]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{place}: field {field} (data.text_field) holds a {type(text).__name__}.\nIt must hold text.")
    return text or ""


def named(text: str, row: dict) -> Document:
    """The document of a row: its "id" names it, if that is a text or a number."""
    name = row.get("id")
    return Document(str(name) if isinstance(name, str | int) else content_name(text), text)


def joined(rows: Iterable[str], separator: str) -> Iterator[str]:
    """Rows that hold a line each, put together again: a document starts at each row that `separator` matches."""
    starts = re.compile(separator).search
    lines: list[str] = []
    for row in rows:
        if starts(row) and "".join(lines).strip():
            yield "".join(lines)
            lines = []
        lines.append(row)
    yield "".join(lines)
