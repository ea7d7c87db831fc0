"""Base classes of text sources. A source is one file here, `class Text(FileSource)` in text.py, and one YAML file in
configs/data.

A source yields one document, or one row group, at a time and never holds the corpus. Its options are the fields of a
dataclass beside it; the smallest source is

    @dataclass(frozen=True, kw_only=True)
    class Options(CorpusOptions):
        count: int = option("number of documents", minimum=1, example=100)

    class Squares(Source):
        Options = Options

        def state(self):
            return self.options["count"]

        def documents(self, warnings):
            for n in range(self.options["count"]):
                yield Document(str(n), f"{n} squared is {n * n}\\n")
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from longrun.base.errors import DataError

from ..documents import Document
from ..import_warnings import ImportWarnings
from ..options import CorpusOptions, TextOptions
from ..tokenizers.base import FILE, Tokenizer
from ..tokenizers.load import load_tokenizer
from ..tokenizers.registry import tokenizers, trainer_name


class Source:
    """Base class of all sources. `documents` may be called several times and yields the same sequence each time.

    Options: dataclass of its options.  required: options that must not be null although their type permits it.
    """

    Options: ClassVar[type[CorpusOptions]] = CorpusOptions
    required: ClassVar[tuple[str, ...]] = ("tokenizer",)

    def __init__(self, options: dict):
        self.options = options

    def check(self) -> None:
        """Raise DataError for errors that can be found without reading text."""

    def check_tokenizer(self) -> None:
        """Raise DataError if data.tokenizer is neither a name nor a file."""
        choice = self.options["tokenizer"]
        if trainer_name(choice) in tokenizers:
            return
        path = Path(str(choice)).expanduser()
        if not (path.is_file() or (path / FILE).is_file()):
            names = tokenizers.names()
            raise DataError(
                f"data.tokenizer={choice} is neither {', '.join(names)} nor a {FILE}.\n"
                f"{tokenizers.suggestion(choice, 'data.tokenizer=', f'Name one, or a folder that holds a {FILE}.')}"
            )

    def state(self) -> Any:
        """Return a JSON-serializable cache key that changes whenever the text may have changed."""
        raise NotImplementedError

    def fetch(self, home: Path, report: Callable[[str], None]) -> None:
        """Download files into the cache folder `home`. Called before any text is read.

        report: prints a line for the user.
        """

    def size(self) -> int | None:
        """Return the bytes of text for the progress bar; None if unknown."""
        return None

    @property
    def location(self) -> Any:
        """Location of the text, for messages."""
        return self.options.get("path") or self.options["source"]

    def tokenizer(self, model_tokenizer: Tokenizer | None) -> Tokenizer | None:
        """Return the tokenizer for the corpus; None if it has to be made first.

        model_tokenizer: that of the model that will read the corpus, if there is one. Raises DataError if it does not
        fit.
        """
        choice = self.options["tokenizer"]
        if model_tokenizer or trainer_name(choice) in tokenizers:
            return model_tokenizer
        return load_tokenizer(Path(str(choice)).expanduser())

    def documents(self, warnings: ImportWarnings) -> Iterator[Document]:
        """Yield all documents; count in `warnings` what was skipped or replaced."""
        raise DataError(
            f"class {type(self).__name__} of data.source={self.options['source']} does not define documents().\n"
            "Expected: def documents(self, warnings) that yields Document(name, text), see data/sources/base.py."
        )


class FileSource(Source):
    """A source that reads local files: the file data.path, or those of the folder data.path that match data.pattern."""

    Options: ClassVar[type[CorpusOptions]] = TextOptions
    required: ClassVar[tuple[str, ...]] = ("tokenizer", "pattern")

    def check(self) -> None:
        if not self.options.get("path"):
            raise DataError(
                f"data.path is empty, and data.source={self.options['source']} reads local files.\n"
                "Set data.path to a file or a folder, for example data.path=corpus/."
            )
        if not self.path.exists():
            raise DataError(
                f"data.path={self.path} does not exist (relative to {Path.cwd()}).\n"
                "Set it to an existing file or folder."
            )
        try:
            files = self.files
        except (ValueError, NotImplementedError) as error:  # raised by pathlib for "" and for "/x"
            raise DataError(
                f"data.pattern={self.options['pattern']!r} is not a pattern of file names: {error}.\n"
                "For example 'data.pattern=\"**/*.txt\"'."
            ) from None
        if not files:
            raise self.no_files()

    def no_files(self) -> DataError:
        return DataError(
            f"No file in data.path={self.path} matches data.pattern={self.options['pattern']}.\n"
            "Set data.pattern, for example 'data.pattern=\"**/*.md\"'; ** stands for any folders."
        )

    @property
    def invalid_utf8(self) -> str:
        return self.options.get("invalid_utf8") or "replace"

    @cached_property
    def path(self) -> Path:
        return Path(self.options["path"]).expanduser()

    @cached_property
    def root(self) -> Path:
        """Folder that the names of documents are relative to."""
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
        stats = [(self.relative(path), path.stat()) for path in self.files]
        return [str(self.root.resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]

    def size(self) -> int | None:
        compressed = any(path.suffix in (".gz", ".parquet") for path in self.files)
        return None if compressed else sum(path.stat().st_size for path in self.files)

    @property
    def location(self) -> Any:
        return self.options.get("path") or self.root
