"""Where documents come from: one class a kind of source, each a stream of documents in a fixed order.

Only files on this machine are read here (`hub.py` brings others). A source holds one file or one row group at a time,
never the corpus.
"""

import gzip
import hashlib
import io
import json
import os
import re
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from .errors import DataError


class Document(NamedTuple):
    name: str  # what decides its split, so it must not depend on the machine or the order
    text: str


class Source:
    """Base of all sources. `documents` may be called several times and yields the same sequence each time."""

    def __init__(self, options: dict):
        self.options = options

    def check(self) -> None:
        """Raises DataError for what is known without reading the text."""
        if not self.options.get("path"):
            raise DataError(
                f"data.path is empty, and data.source={self.options['source']} reads local files.\n"
                "Set data.path to a file or a folder, for example data.path=corpus/."
            )
        if not self.path.exists():
            raise DataError(
                f"data.path={self.path} does not exist (looked from {Path.cwd()}).\n"
                "Set it to a file or folder that does."
            )
        try:
            found = self.files
        except (ValueError, NotImplementedError) as error:  # what pathlib raises for "" and for "/x"
            raise DataError(
                f"data.pattern={self.options['pattern']!r} is no pattern of file names: {error}.\n"
                "For example 'data.pattern=\"**/*.txt\"'."
            ) from None
        if not found:
            raise DataError(
                f"No file in data.path={self.path} matches data.pattern={self.options['pattern']}.\n"
                "Set data.pattern, for example 'data.pattern=\"**/*.md\"'; ** stands for any folders."
            )

    @cached_property
    def path(self) -> Path:
        return Path(self.options["path"]).expanduser()

    @cached_property
    def root(self) -> Path:
        """What documents' names are relative to."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def files(self) -> list[Path]:
        """The files to read, sorted by path."""
        if self.path.is_file():
            return [self.path]
        return sorted((p for p in self.path.glob(self.options["pattern"]) if p.is_file()), key=self.relative)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def state(self) -> Any:
        """What is another when the text may be another, JSON-able."""
        stats = [(self.relative(path), path.stat()) for path in self.files]
        return [str(self.root.resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]

    def fetch(self, home: Path, say: Callable[[str], None]) -> None:
        """Bring files to this machine, into the cache folder `home`. Called before any text is read."""

    def size(self) -> int | None:
        """Bytes of text, None where the files are compressed: for the progress bar."""
        packed = any(path.suffix in (".gz", ".parquet") for path in self.files)
        return None if packed else sum(path.stat().st_size for path in self.files)

    def documents(self, notes: Counter) -> Iterator[Document]:
        """All documents; counts in `notes` what was skipped or replaced."""
        raise NotImplementedError


class Stdlib(Source):
    """The Python standard library's own source files, a document each: real text that every machine has."""

    def check(self) -> None:
        if not self.files:
            raise DataError(
                f"This Python keeps no source files of its standard library in {self.root}.\n"
                "Use your own text: data=text data.path=FILE_OR_FOLDER."
            )

    @cached_property
    def root(self) -> Path:
        return Path(sysconfig.get_path("stdlib"))

    @cached_property
    def files(self) -> list[Path]:
        # Tests are mostly data; _sysconfigdata and config-* describe the machine, not the library.
        others = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [f for f in folders if f not in others and not f.startswith("config-")]
            found += [Path(folder, n) for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata")]
        return sorted(found, key=self.relative)

    def documents(self, notes: Counter) -> Iterator[Document]:
        for path in self.files:
            raw = path.read_bytes()
            try:
                encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
                text = raw.decode(encoding)
            except (SyntaxError, UnicodeDecodeError):
                notes["undecodable files skipped"] += 1
                continue
            yield Document(self.relative(path), text)


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

    def documents(self, notes: Counter) -> Iterator[Document]:
        separator = self.options.get("separator")
        for path in self.files:
            text = _decode(path.read_bytes(), "files", notes)
            if separator is None:
                yield Document(self.relative(path), text)
                continue
            starts = [m.start() for m in re.finditer(separator, text, re.MULTILINE)]
            for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
                if start < end:
                    yield Document(_content_name(text[start:end]), text[start:end])


class JsonLines(Source):
    """One JSON object a line, gzip or not; `text_field` holds the text, a field "id" names the document.

    Read by ourselves and not by `datasets`: only here does an error know its line, and fields beside the text
    may hold anything.
    """

    def documents(self, notes: Counter) -> Iterator[Document]:
        field = self.options["text_field"]
        for path in self.files:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.strip():
                        continue
                    row = _parse(line, f"{path}:{number}", notes)
                    yield named(text_of(row, field, f"{path}:{number}"), row)


class Parquet(Source):
    """Parquet files, read with `datasets`; columns as for JSON lines."""

    def documents(self, notes: Counter) -> Iterator[Document]:
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


def _decode(raw: bytes, what: str, notes: Counter) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        notes[f"{what} with invalid UTF-8 replaced"] += 1
        return raw.decode("utf-8-sig", errors="replace")


def _parse(line: bytes, place: str, notes: Counter) -> dict:
    try:
        row = json.loads(_decode(line, "lines", notes))
    except json.JSONDecodeError as error:
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
    return Document(str(name) if isinstance(name, str | int) else _content_name(text), text)


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


def _content_name(text: str) -> str:
    """Names a document by its text: copies fall into one split, and a new line moves no other document."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
