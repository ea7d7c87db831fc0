"""One validator for every dataclass of `schema.py`: from plain values to typed objects, or a message that helps.

A value is checked against the annotation of its field and against the field's metadata: `choices`, `minimum`,
`maximum`, `above` (exclusive), `filled` (a list with something in it); `example` is for the message. A key the
dataclass lacks, a key that is missing and a value of the wrong type raise ConfigError with the full dotted key, the
value and what would have worked.
"""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from longrun.base.errors import ConfigError
from longrun.base.suggest import suggest
from model.old_keys import OLD_KEYS

T = TypeVar("T")
PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
EXAMPLES = {bool: "true", int: "100", float: "0.1", str: "name"}


class UnknownKey(ConfigError):
    def __init__(self, key: str, given: Any, known: list[str]):
        self.key, self.given = key, given
        if key in OLD_KEYS:
            self.near = [OLD_KEYS[key]]
            message = f"{key}={show(given)}: {key} was renamed, write {OLD_KEYS[key]}={show(given)}"
        else:
            self.near = suggest(key, known)
            hint = f"Did you mean {' or '.join(self.near)}?" if self.near else f"There are: {', '.join(known)}"
            message = f"{key}={show(given)}: there is no key {key}.\n{hint}"
        super().__init__(message)


def build(schema: type[T], values: Any, path: str = "") -> T:
    """Make an instance of the dataclass `schema` from a mapping. `path` is the dotted key of the mapping itself."""
    try:
        made = typed(schema, values, path)
    except UnknownKey as error:
        if path or error.near:
            raise
        everything = [*keys(schema), *(key for key, _, _ in dotted_keys(schema))]
        raise UnknownKey(
            error.key, error.given, everything if suggest(error.key, everything) else keys(schema)
        ) from None
    hints = get_type_hints(schema)
    for item in dataclasses.fields(cast(Any, schema)):
        if item.name not in made and item.default is dataclasses.MISSING:
            full = join(path, item.name)
            raise ConfigError(f"{full} is missing.\nGive it: {full}={example(hints[item.name], item.metadata)}")
    return schema(**made)


def typed(schema: Any, values: Any, path: str = "") -> dict[str, Any]:
    """The typed values of the keys that are given; a key that `schema` lacks is refused, a missing one is not."""
    known = {item.name: item for item in dataclasses.fields(schema)}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}={show(values)}: expected several keys.\nTry {join(path, next(iter(known)))}=...")
    for key in values:
        if key not in known:
            raise UnknownKey(join(path, str(key)), values[key], [join(path, name) for name in known])
    hints = get_type_hints(schema)
    return {key: value(join(path, key), given, hints[key], known[key].metadata) for key, given in values.items()}


def value(key: str, given: Any, hint: Any, rules: Mapping[str, Any]) -> Any:
    """The typed value of one key, checked against its annotation and its rules."""
    if given == "???":
        raise ConfigError(f"{key} has no default.\nGive it: {key}={example(hint, rules)}")
    options = list(get_args(hint)) if get_origin(hint) in (types.UnionType, Union) else [hint]
    if given is None and types.NoneType in options:
        return None
    for option in options:
        found, result = convert(key, given, option)
        if found:
            check_rules(key, result, rules)
            return result
    raise ConfigError(f"{key}={show(given)}: expected {expected(hint, rules)}.\nTry {key}={example(hint, rules)}")


def convert(key: str, given: Any, hint: Any) -> tuple[bool, Any]:
    """(whether `given` can stand for `hint`, the converted value). Whole floats and numbers in quotes are accepted."""
    if hint is Any or (dataclasses.is_dataclass(given) and not isinstance(given, type)):
        return True, given  # whatever it is, or built already
    if dataclasses.is_dataclass(hint):
        return True, build(cast(type, hint), given, key)
    if get_origin(hint) is list:
        if not isinstance(given, list | tuple):
            return False, None
        inner = get_args(hint)[0]
        return True, [value(f"{key}[{i}]", item, inner, {}) for i, item in enumerate(given)]
    if get_origin(hint) is dict or hint is dict:
        return isinstance(given, Mapping), dict(given) if isinstance(given, Mapping) else None
    if hint is bool:
        return isinstance(given, bool), given
    if hint in (int, float) and not isinstance(given, bool):
        return number(given, hint)
    if hint is str:  # a run called 2024 or a tag called true is a text
        return isinstance(given, str | int | float | bool), str(given)
    return False, None


def number(given: Any, kind: type) -> tuple[bool, Any]:
    if isinstance(given, str):
        try:
            given = float(given)
        except ValueError:
            return False, None
    if not isinstance(given, int | float) or given != given:
        return False, None
    if kind is int:
        return float(given).is_integer(), int(given) if float(given).is_integer() else None
    return True, float(given)


def check_rules(key: str, given: Any, rules: Mapping[str, Any]) -> None:
    """The rules apply to a number or a text, and to every element of a list."""
    if isinstance(given, list):
        if rules.get("filled") and not given:
            raise ConfigError(f"{key}=[]: expected at least one element.\nTry {key}={rules['example']}")
        for item in given:
            check_rules(key, item, rules)
        return
    choices = rules.get("choices")
    if choices and given not in choices:
        raise unknown_choice(key, given, list(choices))
    if isinstance(given, bool) or not isinstance(given, int | float):
        return
    too_small = given < rules.get("minimum", given) or ("above" in rules and given <= rules["above"])
    if too_small or given > rules.get("maximum", given):
        hint = f"\nTry {key}={rules['example']}" if "example" in rules else ""
        raise ConfigError(f"{key}={show(given)}: expected {expected(type(given), rules)}.{hint}")


def unknown_choice(key: str, given: Any, choices: list[Any]) -> ConfigError:
    near = suggest(str(given), [str(choice) for choice in choices])
    hint = f"Did you mean {key}={near[0]}?\n" if near else ""
    return ConfigError(f"{key}={show(given)}: unknown choice.\n{hint}There are: {', '.join(map(show, choices))}")


def expected(hint: Any, rules: Mapping[str, Any]) -> str:
    """In words: `a whole number, 1 or more, or null`."""
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
    if get_origin(hint) is list:
        inner = PLAIN.get(get_args(hint)[0], "value").split(" ", 1)[-1]
        return f"a list of {inner}s in [ ]"
    return PLAIN.get(hint, "several keys")


def example(hint: Any, rules: Mapping[str, Any]) -> str:
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


def show(given: Any) -> str:
    """A value the way it is typed on the command line."""
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    text = str(given).replace("'", "")
    return text if len(text) <= 60 else text[:57] + "..."
