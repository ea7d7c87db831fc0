"""Where a corpus comes from: the base of all sources, and what the local ones share.

A kind of source is a class: `code.py`, `text.py`, `rows.py`, `token_files.py`, and `hub.py`, which brings what is
elsewhere. A source holds one document, or one row group, at a time, and never the corpus.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from longrun.base.errors import DataError

from ..tokenizers.base import Tokenizer
from .notes import Notes
from .utf8 import POLICIES

if TYPE_CHECKING:
    from .text import LongText


class Document(NamedTuple):
    name: str  # what decides its split, so it must not depend on the machine or the order
    text: "str | LongText"


class Source:
    """Base of all sources. `documents` may be called several times and yields the same sequence each time."""

    def __init__(self, options: dict):
        self.options = options

    def check(self) -> None:
        """Raises DataError for what is known without reading the text."""
        self.check_policies()
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
            raise self.nothing_found()

    def nothing_found(self) -> DataError:
        return DataError(
            f"No file in data.path={self.path} matches data.pattern={self.options['pattern']}.\n"
            "Set data.pattern, for example 'data.pattern=\"**/*.md\"'; ** stands for any folders."
        )

    def check_policies(self) -> None:
        for key, known in (("invalid_utf8", POLICIES), ("bad_lines", ("refuse", "skip"))):
            given = self.options.get(key)
            if given is not None and given not in known:
                raise DataError(f"data.{key}={given} is unknown.\nChoose one of {', '.join(known)}.")

    @property
    def invalid_utf8(self) -> str:
        return self.options.get("invalid_utf8") or "replace"

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

    def tokenizer(self, given: Tokenizer | None) -> Tokenizer | None:
        """The one to write the corpus with; None = byte, characters or BPE, as the options say.

        given: that of the model which is going to read it, if there is one. Raises DataError if it cannot.
        """
        name = self.options.get("tokenizer")
        return given if given or name in KINDS else Tokenizer.load(Path(str(name)).expanduser())

    def write(self, folder: Path, options: dict, tokenizer: Tokenizer | None, progress: bool) -> dict:
        """Write tokens, offsets and tokenizer into `folder`; returns the provenance."""
        from ..tokenization import build

        return build(self, options, folder, tokenizer, progress)

    def documents(self, notes: Notes) -> Iterator[Document]:
        """All documents; says in `notes` what was skipped or replaced."""
        raise NotImplementedError


KINDS = ("bpe", "byte", "character")  # of tokenizers that need no file


def content_name(text: str) -> str:
    """Names a document by its text: copies fall into one split, and a new line moves no other document."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
