"""Parquet files: one document per row."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from longrun.base.errors import DataError

from ..documents import Document
from ..import_warnings import ImportWarnings
from .base import FileSource
from .rows import document_of, text_of

_ROWS = 256  # decoded at a time


class Parquet(FileSource):
    """Rows of parquet files; the column `text_field` holds the text, a column "id" names the document.

    Read with pyarrow and not with `datasets`, whose streaming reads ahead: 500 MB more memory for 200 MB of text.
    """

    required: ClassVar[tuple[str, ...]] = ("tokenizer", "pattern", "text_field")

    def documents(self, warnings: ImportWarnings) -> Iterator[Document]:
        import pyarrow

        for path in self.files:
            try:
                for row in self.rows(path):
                    yield document_of(text_of(row, self.options["text_field"], str(path)), row)
            except (OSError, pyarrow.ArrowException) as error:
                raise DataError(
                    f"data.path={path} cannot be read as parquet: {error}.\n"
                    "Check that every file is a complete parquet file."
                ) from error

    def rows(self, path: Path) -> Iterator[dict]:
        from pyarrow.parquet import ParquetFile

        field = self.options["text_field"]
        with ParquetFile(path) as file:
            columns = file.schema_arrow.names
            text_of(dict.fromkeys(columns, ""), field, str(path))
            selected = [field, "id"] if "id" in columns and field != "id" else [field]
            for group in range(file.num_row_groups):  # one iterator over all groups would keep the earlier ones
                batches = file.iter_batches(_ROWS, row_groups=[group], columns=selected, use_threads=False)
                for batch in batches:
                    yield from batch.to_pylist()
