"""Source code: the files of a source tree, one document per file."""

import io
import os
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from longrun.base.errors import DataError

from ..documents import Document
from ..import_warnings import ImportWarnings
from ..utf8 import invalid_byte
from .base import FileSource

# Suffixes of programming languages. Data, markup and generated files need a data.pattern.
SUFFIXES = {
    ".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".m", ".mm", ".rs",
    ".go", ".java", ".kt", ".kts", ".scala", ".groovy", ".clj", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx",
    ".vue", ".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".f", ".f90", ".f95", ".hs", ".ml", ".mli", ".ex",
    ".exs", ".erl", ".elm", ".swift", ".dart", ".cs", ".fs", ".vb", ".sh", ".bash", ".zsh", ".ps1", ".sql", ".s",
    ".asm", ".v", ".sv", ".vhd", ".vhdl", ".zig", ".nim", ".d", ".lisp", ".el", ".scm", ".rkt", ".tcl", ".cmake",
    ".proto",
}  # fmt: skip
# Folders of generated files and of copies of other projects.
EXCLUDED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "bower_components"})
LARGEST = 1 << 24  # bytes: a longer file is a generated one


class Code(FileSource):
    """A source tree without hidden folders and EXCLUDED_FOLDERS. Files that are not text are skipped and counted.

    Python files are read in the encoding that they declare, all others as UTF-8.
    """

    required: ClassVar[tuple[str, ...]] = ("tokenizer",)
    excluded_folders: ClassVar[frozenset[str]] = EXCLUDED_FOLDERS

    def no_files(self) -> DataError:
        requirement = self.options.get("pattern") or "the suffix of a programming language"
        return DataError(
            f"No file in data.path={self.path} has {requirement}.\n"
            "Set data.pattern, for example 'data.pattern=\"**/*.tex\"'."
        )

    @cached_property
    def files(self) -> list[Path]:
        pattern = self.options.get("pattern")
        if self.path.is_file():
            return [self.path]
        if pattern is None:
            return self.walk()
        parents = ((path, path.relative_to(self.root).parts[:-1]) for path in self.path.glob(pattern))
        matches = [path for path, folders in parents if all(map(self.enters, folders)) and path.is_file()]
        return sorted(matches, key=self.relative)

    def walk(self) -> list[Path]:
        files = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = filter(self.enters, folders)
            files += [path for name in names if self.takes(name) and (path := Path(folder, name)).is_file()]
        return sorted(files, key=self.relative)

    def enters(self, folder: str) -> bool:
        return not folder.startswith(".") and folder not in self.excluded_folders

    def takes(self, name: str) -> bool:
        return os.path.splitext(name)[1].lower() in SUFFIXES

    def documents(self, warnings: ImportWarnings) -> Iterator[Document]:
        for path in self.files:
            name = self.relative(path)
            if path.stat().st_size > LARGEST:
                warnings.add("files of more than 16 MB skipped", name)
                continue
            text = self.read(path, name)
            if text is None:
                warnings.add("undecodable files skipped", name)
            else:
                yield Document(name, text)

    def read(self, path: Path, name: str) -> str | None:
        """Return the text of a source file; None if it cannot be decoded."""
        raw, encoding = path.read_bytes(), "utf-8-sig"
        try:
            if path.suffix == ".py":
                encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
            elif b"\0" in raw:
                return None
            return raw.decode(encoding)
        except SyntaxError:  # it declares an encoding that does not exist
            return None
        except UnicodeDecodeError as error:
            if self.options.get("invalid_utf8") == "refuse":
                raise invalid_byte(f"{name}, byte {error.start}", error.object[error.start]) from None
            return None
