"""Typed access to config.json: a missing or unsupported value raises a ModelError that names its key."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ModelError

REQUIRED = object()  # as a default: the key must exist


class HFConfig:
    """The values of config.json. Methods take alternative names of one value; the first one with a value counts.

    `null` in the file is the same as a missing key.
    """

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values, self.where = values, where

    @classmethod
    def read(cls, folder: str | Path) -> "HFConfig":
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
        """The value, of any type."""
        return next((self.values[key] for key in keys if self.values.get(key) is not None), default)

    def integer(self, *keys: str, default: Any = REQUIRED) -> Any:
        """An integer from 1 up."""
        value = self._value(keys, default)
        valid = value is default or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
        return value if valid else self.refuse(keys, "a whole number, 1 or more")

    def number(self, *keys: str, default: Any = REQUIRED) -> Any:
        """A number above 0."""
        value = self._value(keys, default)
        valid = value is default or (
            isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18
        )
        if not valid:
            return self.refuse(keys, "a number above 0")
        return value if value is None else float(value)

    def flag(self, *keys: str, default: Any = REQUIRED) -> Any:
        value = self._value(keys, default)
        return value if value is default or isinstance(value, bool) else self.refuse(keys, "true or false")

    def numbers(self, *keys: str, default: Any = REQUIRED) -> Any:
        """A list of numbers above 0."""
        value = self._value(keys, default)
        valid = isinstance(value, list) and all(isinstance(x, int | float) and 0 < x < 1e18 for x in value)
        if value is not default and not valid:
            return self.refuse(keys, "a list of numbers above 0")
        return value if value is default else [float(x) for x in value]

    def section(self, *keys: str) -> "HFConfig":
        """A mapping within the mapping; an empty one if it is missing."""
        values = self.get(*keys, default={})
        if not isinstance(values, Mapping):
            self.refuse(keys, "a mapping")
        return HFConfig(values, f"{self.where}: {keys[0]}")

    def __contains__(self, key: str) -> bool:
        """Return whether the key exists, also with the value `null`."""
        return key in self.values

    def require(self, key: str, *legal: Any, default: Any) -> None:
        """Raise ModelError if `key` has a value that Longrun does not implement."""
        if self.get(key, default=default) not in legal:
            self.refuse([key], " or ".join(json.dumps(value) for value in legal))

    def translate(self, key: str, table: Mapping[str, str], default: str) -> str:
        """Longrun's word for the value of `key`. Raises ModelError if it is not in `table`."""
        value = self.get(key, default=default)
        return table[value] if value in table else self.refuse([key], "one of " + ", ".join(table))

    def refuse(self, keys: Sequence[str], expected: str) -> NoReturn:
        """Raise ModelError about the value of the first of `keys` that has one."""
        key = next((key for key in keys if self.values.get(key) is not None), keys[0])
        raise ModelError(
            f"{self.where}: {key}={json.dumps(self.get(key))}, expected {expected}.\n"
            "Longrun does not implement other values."
        )

    def _value(self, keys: tuple[str, ...], default: Any) -> Any:
        value = self.get(*keys, default=default)
        if value is REQUIRED:
            raise ModelError(f"{self.where} has no {' or '.join(keys)}.\nIs it the configuration of a language model?")
        return value
