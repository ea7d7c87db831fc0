"""The source files of the running Python's standard library: real text that every machine has."""

import sysconfig
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from longrun.base.errors import DataError

from .code import EXCLUDED_FOLDERS, Code


class Stdlib(Code):
    """`Code` for the standard library, without its tests."""

    # Tests are mostly data; _sysconfigdata and config-* describe the machine, not the library.
    excluded_folders: ClassVar[frozenset[str]] = EXCLUDED_FOLDERS | {"test", "tests", "idle_test"}

    def check(self) -> None:
        if not self.files:
            raise DataError(
                f"This Python has no source files of its standard library in {self.root}.\n"
                "Use your own text: data=text data.path=FILE_OR_FOLDER."
            )

    @cached_property
    def path(self) -> Path:
        return Path(sysconfig.get_path("stdlib"))

    @cached_property
    def files(self) -> list[Path]:
        return self.walk()

    def enters(self, folder: str) -> bool:
        return folder not in self.excluded_folders and not folder.startswith("config-")

    def takes(self, name: str) -> bool:
        return name.endswith(".py") and not name.startswith("_sysconfigdata")
