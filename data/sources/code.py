"""Source code: the files of any source tree, a document each, and of the running interpreter's library."""

import io
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from longrun.base.errors import DataError

from .base import Document, Source
from .notes import Notes
from .utf8 import invalid

# What a language's own files end in. Data, markup and what programs write is left out; data.pattern says otherwise.
SUFFIXES = {
    ".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".m", ".mm", ".rs",
    ".go", ".java", ".kt", ".kts", ".scala", ".groovy", ".clj", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx",
    ".vue", ".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".f", ".f90", ".f95", ".hs", ".ml", ".mli", ".ex",
    ".exs", ".erl", ".elm", ".swift", ".dart", ".cs", ".fs", ".vb", ".sh", ".bash", ".zsh", ".ps1", ".sql", ".s",
    ".asm", ".v", ".sv", ".vhd", ".vhdl", ".zig", ".nim", ".d", ".lisp", ".el", ".scm", ".rkt", ".tcl", ".cmake",
    ".proto",
}  # fmt: skip
# Written by tools, or copies of what others wrote.
NOT_WRITTEN_HERE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages", "bower_components"})
LARGEST = 1 << 24  # bytes: what is longer was written by a program


class Code(Source):
    """A source tree: hidden folders and NOT_WRITTEN_HERE left out, files that are no text skipped and counted.

    Python files are read in the encoding that they declare, all others as UTF-8.
    """

    left_out = NOT_WRITTEN_HERE

    def nothing_found(self) -> DataError:
        what = self.options.get("pattern") or "the suffix of a programming language"
        return DataError(
            f"No file in data.path={self.path} has {what}.\nSet data.pattern, for example 'data.pattern=\"**/*.tex\"'."
        )

    @cached_property
    def files(self) -> list[Path]:
        pattern = self.options.get("pattern")
        if self.path.is_file():
            return [self.path]
        if pattern is None:
            return self.walk()
        parents = ((path, path.relative_to(self.root).parts[:-1]) for path in self.path.glob(pattern))
        found = [path for path, folders in parents if all(map(self.enters, folders)) and path.is_file()]
        return sorted(found, key=self.relative)

    def walk(self) -> list[Path]:
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = filter(self.enters, folders)
            found += [path for name in names if self.takes(name) and (path := Path(folder, name)).is_file()]
        return sorted(found, key=self.relative)

    def enters(self, folder: str) -> bool:
        return not folder.startswith(".") and folder not in self.left_out

    def takes(self, name: str) -> bool:
        return os.path.splitext(name)[1].lower() in SUFFIXES

    def documents(self, notes: Notes) -> Iterator[Document]:
        for path in self.files:
            name = self.relative(path)
            if path.stat().st_size > LARGEST:
                notes.add("files of more than 16 MB skipped", name)
                continue
            text = self.read(path, name)
            if text is None:
                notes.add("undecodable files skipped", name)
            else:
                yield Document(name, text)

    def read(self, path: Path, name: str) -> str | None:
        """The text of a source file; None if it is none."""
        raw, encoding = path.read_bytes(), "utf-8-sig"
        try:
            if path.suffix == ".py":
                encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
            elif b"\0" in raw:
                return None
            return raw.decode(encoding)
        except SyntaxError:  # it declares an encoding that there is not
            return None
        except UnicodeDecodeError as error:
            if self.options.get("invalid_utf8") == "refuse":
                raise invalid(f"{name}, byte {error.start}", error.object[error.start]) from None
            return None


class Stdlib(Code):
    """The Python standard library's own source files: real text that every machine has."""

    # Tests are mostly data; _sysconfigdata and config-* describe the machine, not the library.
    left_out = NOT_WRITTEN_HERE | {"test", "tests", "idle_test"}

    def check(self) -> None:
        self.check_policies()
        if not self.files:
            raise DataError(
                f"This Python keeps no source files of its standard library in {self.root}.\n"
                "Use your own text: data=text data.path=FILE_OR_FOLDER."
            )

    @cached_property
    def path(self) -> Path:
        return Path(sysconfig.get_path("stdlib"))

    @cached_property
    def files(self) -> list[Path]:
        return self.walk()

    def enters(self, folder: str) -> bool:
        return folder not in self.left_out and not folder.startswith("config-")

    def takes(self, name: str) -> bool:
        return name.endswith(".py") and not name.startswith("_sysconfigdata")
