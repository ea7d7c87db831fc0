"""A folder's config.json with types: a value that is missing or that we cannot honour is a ModelError naming it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ModelError

NEEDED = object()  # as a default: the key has to be there


class Settings:
    """What config.json says. Each method takes several names of one value, the first that is there counts.

    `null` in the file is the same as no such key.
    """

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values, self.where = values, where

    @classmethod
    def read(cls, folder: str | Path) -> "Settings":
        path = Path(folder) / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{path} does not exist.\nName the folder of a checkpoint: config.json and *.safetensors."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read: {error}.\nDownload it again.") from None
        if not isinstance(values, dict):
            raise ModelError(f"{path} holds a {type(values).__name__} where a mapping belongs.\nDownload it again.")
        return cls(values, str(path))

    def get(self, *keys: str, default: Any = None) -> Any:
        """The value, whatever it is."""
        return next((self.values[key] for key in keys if self.values.get(key) is not None), default)

    def whole(self, *keys: str, default: Any = NEEDED) -> Any:
        """A whole number from 1 up."""
        given = self._found(keys, default)
        fits = given is default or (isinstance(given, int) and not isinstance(given, bool) and given > 0)
        return given if fits else self.refuse(keys, "a whole number, 1 or more")

    def number(self, *keys: str, default: Any = NEEDED) -> Any:
        """A number above 0."""
        given = self._found(keys, default)
        fits = given is default or (isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < 1e18)
        if not fits:
            return self.refuse(keys, "a number above 0")
        return given if given is None else float(given)

    def flag(self, *keys: str, default: Any = NEEDED) -> Any:
        given = self._found(keys, default)
        return given if given is default or isinstance(given, bool) else self.refuse(keys, "true or false")

    def numbers(self, *keys: str, default: Any = NEEDED) -> Any:
        """A list of numbers above 0."""
        given = self._found(keys, default)
        fits = isinstance(given, list) and all(isinstance(x, int | float) and 0 < x < 1e18 for x in given)
        if given is not default and not fits:
            return self.refuse(keys, "a list of numbers above 0")
        return given if given is default else [float(x) for x in given]

    def part(self, *keys: str) -> "Settings":
        """A mapping inside the mapping; an empty one if it is not there."""
        given = self.get(*keys, default={})
        return (
            Settings(given, f"{self.where}: {keys[0]}")
            if isinstance(given, Mapping)
            else self.refuse(keys, "a mapping")
        )

    def __contains__(self, key: str) -> bool:
        """Whether the key is there, be it `null`."""
        return key in self.values

    def require(self, key: str, *legal: Any, default: Any) -> None:
        """Refuse a checkpoint whose `key` has a value that our model has no equation for."""
        given = self.get(key, default=default)
        if given not in legal:
            self.refuse([key], " or ".join(json.dumps(value) for value in legal))

    def translate(self, key: str, table: Mapping[str, str], default: str) -> str:
        """Our word for theirs. Raises ModelError for one that is not in `table`."""
        given = self.get(key, default=default)
        return table[given] if given in table else self.refuse([key], "one of " + ", ".join(table))

    def refuse(self, keys: Sequence[str], expected: str) -> NoReturn:
        """Raise ModelError for the value that the first of `keys` has."""
        key = next((key for key in keys if self.values.get(key) is not None), keys[0])
        raise ModelError(
            f"{self.where}: {key}={json.dumps(self.get(key))}, expected {expected}.\n"
            "Our model has no equation for other values."
        )

    def _found(self, keys: tuple[str, ...], default: Any) -> Any:
        given = self.get(*keys, default=default)
        if given is NEEDED:
            raise ModelError(
                f"{self.where} says nothing about {' or '.join(keys)}.\nIs it the configuration of a language model?"
            )
        return given
