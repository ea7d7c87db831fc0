"""The arguments `key=value` of a script that works on one run."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from longrun.base.errors import ConfigError
from longrun.config.validate import build, show
from longrun.runs.run_folder import resolve_run

T = TypeVar("T")


def read(
    words: Iterable[str], schema: type[T], defaults: Mapping[str, Any], example: str, texts: tuple[str, ...] = ()
) -> T:
    """The checked options: a `schema`, one of whose keys is `run`. Raises ConfigError.

    example: words that would be accepted.  texts: keys whose value may be the text "null".
    """
    values = dict(defaults)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word}: expected key=value.\nTry {example}")
        values[name] = None if value == "null" and name not in texts else value
    config: Any = build(schema, values)
    config.run = resolve_run(config.run)
    if not Path(config.run).is_dir():
        raise ConfigError(f"run={config.run}: there is no such folder.\nTry one of the folders in runs/")
    return config


def usage(command: str, schema: type, defaults: Mapping[str, Any]) -> str:
    """The text of --help: every key with its default and its description."""
    shown = {f.name: show(defaults[f.name]) if f.name in defaults else "..." for f in fields(schema)}
    lines = [f"  {f.name}={shown[f.name]}".ljust(22) + f.metadata["doc"] for f in fields(schema)]
    return "\n".join([command, "", *lines])
