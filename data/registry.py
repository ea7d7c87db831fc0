"""Find sources, tokenizers and tasks by file name: data/<room>/<name>.py holds the class <Name>.

Errors in a new file become one DataError that names the file and what is expected in it.
"""

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, get_origin

from longrun.base.errors import DataError
from longrun.base.suggest import suggest

T = TypeVar("T")


class Registry(Generic[T]):
    """The parts of one room of data/.

    base: class that every part inherits from.  methods: those that every part must define.
    helpers: files of the room that are not parts.
    """

    def __init__(self, room: str, base: type[T], methods: Sequence[str], helpers: Sequence[str]):
        self.room, self.base, self.methods, self.helpers = room, base, methods, helpers

    def names(self) -> list[str]:
        """Names of all parts, one per file."""
        folders = importlib.import_module(f"{__package__}.{self.room}").__path__
        files = [path.stem for folder in folders for path in Path(folder).glob("*.py")]
        return sorted(set(files) - {"__init__", *self.helpers})

    def __contains__(self, name: Any) -> bool:
        return name in self.names()

    def suggestion(self, word: Any, prefix: str = "", otherwise: str = "") -> str:
        """Sentence that names the part closest to `word`; `otherwise`, or all names, if none is close."""
        near = suggest(str(word), self.names())
        return f"Did you mean {prefix}{near[0]}?" if near else otherwise or f"Choose one of {', '.join(self.names())}."

    def load(self, name: str) -> type[T]:
        """Return the class of a part. Raises DataError if its file cannot be imported or does not define it."""
        assert name in self, name
        expected, file = class_name(name), f"data/{self.room}/{name}.py"
        classes = {key: value for key, value in vars(self._module(name, file)).items() if inspect.isclass(value)}
        part = classes.get(expected)
        if part is None:
            own = [key for key, value in classes.items() if value.__module__.endswith(f".{self.room}.{name}")]
            raise DataError(
                f"{file} does not define class {expected}; it defines {', '.join(own) or 'no class'}.\n"
                f"The file name decides the class name: write class {expected}({self.base.__name__})."
            )
        if not issubclass(part, self.base):
            raise DataError(
                f"class {expected} in {file} is not a {self.base.__name__}.\n"
                f"Write class {expected}({self.base.__name__}), with from .base import {self.base.__name__}."
            )
        for method in self.methods:
            if getattr(part, method) is getattr(self.base, method):
                raise DataError(
                    f"class {expected} in {file} does not define {method}().\n{self._documentation(method)}"
                )
        require_dataclass(part, file)
        return part

    def _module(self, name: str, file: str) -> Any:
        try:
            return importlib.import_module(f"{__package__}.{self.room}.{name}")
        except SyntaxError as error:
            raise DataError(
                f"{file} cannot be imported: line {error.lineno} of {error.filename} is not Python: {error.msg}.\n"
                "Correct that line."
            ) from error
        except Exception as error:  # whatever the code of a new part raises
            raise DataError(
                f"{file} cannot be imported: {type(error).__name__}: {error}.\n"
                f"It must define class {class_name(name)}({self.base.__name__})."
            ) from error

    def _documentation(self, method: str) -> str:
        signature = inspect.signature(getattr(self.base, method))
        return f"Expected: def {method}{signature}, see data/{self.room}/base.py."


def require_dataclass(part: type, file: str) -> None:
    """Raise DataError if a class declares options and is not a dataclass: they would not be read."""
    own = [key for key, hint in inspect.get_annotations(part).items() if get_origin(hint) is not ClassVar]
    if own and "__dataclass_params__" not in vars(part):
        raise DataError(
            f"class {part.__name__} in {file} declares {', '.join(own)} and is not a dataclass.\n"
            "Put @dataclass(frozen=True) in front of it: its fields are its options."
        )


def class_name(name: str) -> str:
    """Name of the class in a file: `modular_sum` -> `ModularSum`."""
    return "".join(word.capitalize() for word in name.split("_"))
