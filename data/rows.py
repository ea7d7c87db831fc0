"""Documents that are rows: JSON lines and parquet."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator

from .decoding import line_of
from .errors import DataError
from .notes import Notes
from .sources import Document, Source, content_name


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
    """Parquet files, read with `datasets`; columns as for JSON lines."""

    def documents(self, notes: Notes) -> Iterator[Document]:
        import pyarrow
        from datasets import config, exceptions, load_dataset

        files = [str(path) for path in self.files]
        field = self.options["text_field"]
        offline = config.HF_HUB_OFFLINE
        config.HF_HUB_OFFLINE = True  # or it reports every load to the hub, and waits for the answer
        try:
            rows = load_dataset("parquet", data_files=files, split="train", streaming=True)
            columns = list(rows.features or ())
            text_of(dict.fromkeys(columns, ""), field, files[0])
            rows = rows.select_columns([field, "id"] if "id" in columns and field != "id" else [field])
            for row in rows:
                yield named(text_of(row, field, files[0]), row)
        except (OSError, pyarrow.ArrowException, exceptions.DatasetGenerationError) as error:
            raise DataError(
                f"data.path={self.options['path']} cannot be read as parquet: {error}.\n"
                "Check that every file is a whole parquet file."
            ) from error
        finally:
            config.HF_HUB_OFFLINE = offline


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
