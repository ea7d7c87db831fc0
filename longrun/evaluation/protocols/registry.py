"""The protocols by name: protocols/<name>.py holds class <Name>. Torch-free."""

import dataclasses
import importlib
import inspect
from dataclasses import Field
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from longrun.base.errors import ConfigError
from longrun.base.paths import ROOT
from longrun.evaluation.protocols.base import Protocol

FOLDER = Path(__file__).resolve().parent
NOT_PROTOCOLS = ("__init__", "base", "registry")


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NOT_PROTOCOLS)


def file_of(name: str) -> str:
    return str((FOLDER / f"{name}.py").relative_to(ROOT))


@cache
def load(name: str) -> type[Protocol]:
    """The class of a protocol. Raises ConfigError, which names the file, if it does not hold such a class."""
    file = file_of(name)
    class_name = "".join(map(str.capitalize, name.split("_")))
    try:
        module = importlib.import_module(f"{__package__}.{name}")
    except Exception as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        message = error.msg if isinstance(error, SyntaxError) else error
        raise ConfigError(
            f"{file} cannot be imported: {type(error).__name__}: {message}{where}.\n"
            f"Expected a frozen dataclass {class_name}(Protocol); see last_k.py beside it"
        ) from error
    cls = getattr(module, class_name, None)
    if problem := _problem(cls, class_name, module):
        raise ConfigError(f"{file}: {problem}")
    assert cls is not None
    return cls


def _problem(cls: Any, class_name: str, module: Any) -> str | None:
    """Why `cls` is not the protocol of `module`; None if it is."""
    if not (inspect.isclass(cls) and issubclass(cls, Protocol)):
        own = [name for name, each in vars(module).items() if getattr(each, "__module__", "") == module.__name__]
        return (
            f"it has no class {class_name}(Protocol).\nThe class is named after the file; it defines: {', '.join(own)}"
        )
    if plain := [name for name, each in vars(cls).items() if isinstance(each, Field)]:
        return (
            f"{plain[0]} is an option, and {class_name} is no dataclass.\nPut @dataclass(frozen=True) above the class"
        )
    general = {item.name for item in dataclasses.fields(Protocol)}
    if other := [item.name for item in dataclasses.fields(cls) if item.name not in {*general, *cls.declared()}]:
        return f'{other[0]} is a field without a description.\nWrite {other[0]}: TYPE = option("what it is", DEFAULT)'
    if missing := sorted(cls.__abstractmethods__):
        return f"{class_name} does not define {' and '.join(missing)}.\nSee protocols/base.py for what it returns"
    return None


@cache
def options() -> dict[str, tuple[Field, tuple[str, ...]]]:
    """Every option of a protocol: its declaration and the protocols that have it.

    Raises ConfigError for a file without a protocol, and for two protocols that declare one name differently.
    """
    declared: dict[str, tuple[Field, tuple[str, ...]]] = {}
    for protocol in names():
        for name, item in load(protocol).declared().items():
            first, users = declared.get(name, (item, ()))
            if (item.type, item.metadata, _default(item)) != (first.type, first.metadata, _default(first)):
                raise ConfigError(
                    f"{file_of(protocol)} declares the option {name} differently from {file_of(users[0])}.\n"
                    "Give it another name: the two are one key on the command line"
                )
            declared[name] = (first, (*users, protocol))
    return declared


def option_type(name: str) -> Any:
    """The annotation of an option."""
    _, users = options()[name]
    return get_type_hints(load(users[0]))[name]


def defaults() -> dict[str, Any]:
    return {name: _default(item) for name, (item, _) in options().items()}


def _default(item: Field) -> Any:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def create(name: str, **values: Any) -> Protocol:
    """The protocol `name` with these options; the others have their defaults. Values are not checked."""
    return load(name)(**values)


def from_config(config: Any) -> Protocol:
    """The protocol of a checked `EvalConfig`."""
    cls = load(config.protocol)
    return cls(**{item.name: getattr(config, item.name) for item in dataclasses.fields(cls)})
