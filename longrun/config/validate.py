"""The validator of every configuration dataclass: from plain values to typed objects.

A value is checked against the annotation of its field and against the field's metadata: `choices`, `minimum`,
`maximum`, `above` (exclusive), `filled` (a list with at least one element); `example` is for the message. An unknown
key, a missing key and a value of the wrong type raise ConfigError with the full dotted key, the value and a value that
would have worked.
"""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from longrun.base.errors import ConfigError
from longrun.base.suggest import suggest
from model.old_keys import OLD_KEYS

T = TypeVar("T")
TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
EXAMPLES = {bool: "true", int: "100", float: "0.1", str: "name"}


class UnknownKey(ConfigError):
    """A key that does not exist, or no longer under this name. The message suggests the nearest ones."""

    def __init__(self, key: str, value: Any, names: list[str]):
        self.key, self.value = key, value
        if key in OLD_KEYS:
            self.near = [OLD_KEYS[key]]
            message = f"{key}={show(value)}: {key} was renamed, write {OLD_KEYS[key]}={show(value)}"
        else:
            self.near = suggest(key, names)
            hint = f"Did you mean {' or '.join(self.near)}?" if self.near else f"There are: {', '.join(names)}"
            message = f"{key}={show(value)}: there is no key {key}.\n{hint}"
        super().__init__(message)


def build(schema: type[T], values: Any, path: str = "") -> T:
    """Make an instance of the dataclass `schema` from a mapping. `path` is the dotted key of the mapping itself."""
    try:
        fields = typed(schema, values, path)
    except UnknownKey as error:
        if path or error.near:
            raise
        everything = [*keys(schema), *(key for key, _, _ in dotted_keys(schema))]
        raise UnknownKey(
            error.key, error.value, everything if suggest(error.key, everything) else keys(schema)
        ) from None
    hints = get_type_hints(schema)
    for item in dataclasses.fields(cast(Any, schema)):
        if item.name not in fields and item.default is dataclasses.MISSING:
            full = join(path, item.name)
            raise ConfigError(f"{full} is missing.\nGive it: {full}={example(hints[item.name], item.metadata)}")
    return schema(**fields)


def typed(schema: Any, values: Any, path: str = "") -> dict[str, Any]:
    """The typed values of the keys in `values`; keys may be missing. Raises UnknownKey for one that `schema` lacks."""
    items = {item.name: item for item in dataclasses.fields(schema)}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}={show(values)}: expected several keys.\nTry {join(path, next(iter(items)))}=...")
    for key in values:
        if key not in items:
            raise UnknownKey(join(path, str(key)), values[key], [join(path, name) for name in items])
    hints = get_type_hints(schema)
    return {key: checked(join(path, key), value, hints[key], items[key].metadata) for key, value in values.items()}


def checked(key: str, value: Any, hint: Any, rules: Mapping[str, Any]) -> Any:
    """The typed value of one key, checked against its annotation and its rules."""
    if value == "???":
        raise ConfigError(f"{key} has no default.\nGive it: {key}={example(hint, rules)}")
    options = list(get_args(hint)) if get_origin(hint) in (types.UnionType, Union) else [hint]
    if value is None and types.NoneType in options:
        return None
    for option in options:
        matches, result = convert(key, value, option)
        if matches:
            check_rules(key, result, rules)
            return result
    raise ConfigError(f"{key}={show(value)}: expected {expected(hint, rules)}.\nTry {key}={example(hint, rules)}")


def convert(key: str, value: Any, hint: Any) -> tuple[bool, Any]:
    """(True if `value` is of the type `hint`, the converted value). Whole floats and numbers in quotes are accepted."""
    if hint is Any or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return True, value  # anything, or built already
    if dataclasses.is_dataclass(hint):
        return True, build(cast(type, hint), value, key)
    if get_origin(hint) is list:
        if not isinstance(value, list | tuple):
            return False, None
        inner = get_args(hint)[0]
        return True, [checked(f"{key}[{i}]", item, inner, {}) for i, item in enumerate(value)]
    if get_origin(hint) is dict or hint is dict:
        return isinstance(value, Mapping), dict(value) if isinstance(value, Mapping) else None
    if hint is bool:
        return isinstance(value, bool), value
    if hint in (int, float) and not isinstance(value, bool):
        return number(value, hint)
    if hint is str:  # a run called 2024 or a tag called true is a text
        return isinstance(value, str | int | float | bool), str(value)
    return False, None


def number(value: Any, kind: type) -> tuple[bool, Any]:
    """As `convert`, for int and float."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False, None
    if not isinstance(value, int | float) or value != value:
        return False, None
    if kind is int:
        return float(value).is_integer(), int(value) if float(value).is_integer() else None
    return True, float(value)


def check_rules(key: str, value: Any, rules: Mapping[str, Any]) -> None:
    """Raise ConfigError if a number, a text or an element of a list breaks the rules of its field."""
    if isinstance(value, list):
        if rules.get("filled") and not value:
            raise ConfigError(f"{key}=[]: expected at least one element.\nTry {key}={rules['example']}")
        for item in value:
            check_rules(key, item, rules)
        return
    choices = rules.get("choices")
    if choices and value not in choices:
        raise unknown_choice(key, value, list(choices))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    too_small = value < rules.get("minimum", value) or ("above" in rules and value <= rules["above"])
    if too_small or value > rules.get("maximum", value):
        hint = f"\nTry {key}={rules['example']}" if "example" in rules else ""
        raise ConfigError(f"{key}={show(value)}: expected {expected(type(value), rules)}.{hint}")


def unknown_choice(key: str, value: Any, choices: list[Any]) -> ConfigError:
    """The refusal of a value that is not among the choices. It suggests the nearest one."""
    near = suggest(str(value), [str(choice) for choice in choices])
    hint = f"Did you mean {key}={near[0]}?\n" if near else ""
    return ConfigError(f"{key}={show(value)}: unknown choice.\n{hint}There are: {', '.join(map(show, choices))}")


def expected(hint: Any, rules: Mapping[str, Any]) -> str:
    """The type and the rules in words: `a whole number, 1 or more, or null`."""
    options = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
    words = " or ".join(describe(option) for option in options if option is not types.NoneType)
    if rules.get("choices"):
        words = f"one of {', '.join(map(show, rules['choices']))}"
    if "minimum" in rules:
        words += f", {rules['minimum']} or more"
    if "above" in rules:
        words += f", more than {rules['above']}"
    if "maximum" in rules:
        words += f", at most {rules['maximum']}"
    return words + (", or null" if types.NoneType in options else "")


def describe(hint: Any) -> str:
    """A type in words: `a number`, `a list of texts in [ ]`."""
    if get_origin(hint) is list:
        inner = TYPE_NAMES.get(get_args(hint)[0], "value").split(" ", 1)[-1]
        return f"a list of {inner}s in [ ]"
    return TYPE_NAMES.get(hint, "several keys")


def example(hint: Any, rules: Mapping[str, Any]) -> str:
    """A value that would be accepted."""
    if rules.get("example"):
        return str(rules["example"])
    if rules.get("choices"):
        return str(rules["choices"][0])
    options = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
    if get_origin(options[0]) is list:
        inner = EXAMPLES.get(get_args(options[0])[0], "1")
        return f"'[{inner},{inner}]'"
    if "minimum" in rules and options[0] in (int, float):
        return str(max(rules["minimum"], 1))
    return EXAMPLES.get(options[0], "...")


def keys(schema: Any) -> list[str]:
    """The names of a dataclass's fields."""
    return [item.name for item in dataclasses.fields(schema)]


def dotted_keys(schema: Any, path: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """(dotted key, annotation, rules) of every leaf below a dataclass."""
    hints = get_type_hints(schema)
    for item in dataclasses.fields(schema):
        full = join(path, item.name)
        if dataclasses.is_dataclass(hints[item.name]):
            yield from dotted_keys(hints[item.name], full)
        else:
            yield full, hints[item.name], item.metadata


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def show(value: Any) -> str:
    """A value as it is typed on the command line, at most 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value).replace("'", "")
    return text if len(text) <= 60 else text[:57] + "..."
