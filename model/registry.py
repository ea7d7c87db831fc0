"""Plug-ins found by name, without importing torch.

A plug-in is one Python file and at least one YAML file:

    configs/<group>/<name>.yaml     name: <name>, scheme: <scheme>, then a value for every option
    model/<group>/<scheme>.py       class <Scheme>(...): def __init__(self, shape, *, option: type, ...)

Values live in the YAML file, types in the constructor. Options are checked against both before torch is imported. A
plug-in is selected by a *name*, so a configuration from somebody else cannot name arbitrary code.
"""

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from omegaconf import OmegaConf
from yaml import MarkedYAMLError

from .constructors import PART, read_constructor
from .errors import ModelError

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"

Part = str | dict  # an option annotated `Part` or `list[Part]` holds further plug-ins of the same group
Options = dict[str, Any]


class Registry:
    """The plug-ins of one group (`pe`, `positions`, `extension`).

    noun: the kind of plug-in, for messages.
    parts: the group of the option `part` of a constructor with `**options`. These are the options of that part; in the
        YAML file they stand beside the others.
    renamed: old scheme -> (`scheme`, `part`), for configurations that were stored before a scheme was replaced.
    root: the folder with model/ and configs/.
    """

    def __init__(
        self,
        group: str,
        noun: str,
        parts: "Registry | None" = None,
        renamed: Mapping[str, tuple[str, str]] | None = None,
        root: Path = ROOT,
    ):
        self.group, self.noun, self.parts, self.renamed, self.root = group, noun, parts, renamed or {}, root
        self.code, self.configs = root / "model" / group, root / "configs" / group
        self.options_of = cache(self._read_options)

    def names(self) -> list[str]:
        """Every name that can be selected: one per YAML file."""
        return sorted(path.stem for path in self.configs.glob("*.yaml"))

    def options(self, name: str) -> Options:
        """The YAML file of `name` as a dict: `name`, `scheme`, and its options.

        Raises ModelError for an unknown name, and if the YAML file and the constructor do not fit together.
        """
        if name not in self.names():
            raise ModelError(unknown(f"{self.group}.name", name, self.names(), self.noun))
        return dict(self.options_of(name))

    def resolve(self, part: Part) -> Options:
        """Complete `part` from the YAML file of its name and check every option against the constructor.

        Raises ModelError for an unknown name, an unknown option or a value of the wrong type.
        """
        part = {"name": part} if isinstance(part, str) else dict(part)
        if not isinstance(part.get("name"), str):
            raise ModelError(f"{self.group}={part}: a {self.noun} is chosen by its name.\nTry {self.group}.name=NAME")
        defaults = self.options(part["name"])
        if part.get("scheme") in self.renamed:
            part["scheme"], part["part"] = self.renamed[part["scheme"]]
        for key in part:
            if key not in defaults:
                raise ModelError(
                    unknown(f"{self.group}.{key}", part[key], [*defaults], f"option of {defaults['name']}")
                )
        for key in ("scheme", "part") if self._is_open(defaults["scheme"]) else ("scheme",):
            if part.get(key, defaults[key]) != defaults[key]:
                raise ModelError(f"{self.group}.{key}={part[key]}: {key} of {defaults['name']} is {defaults[key]}.")
        resolved = defaults | part
        for key, annotation in self._types(defaults).items():
            resolved[key] = self._checked(key, resolved[key], annotation, defaults)
        return resolved

    def signature(self, scheme: str, part: Any = None) -> dict[str, Any]:
        """Keyword options of the constructor and their types, {option: type}, with those of its `part` if it is open.

        Options of a part that hold an encoding are left out: the trained encoding takes their place.
        """
        types = dict(self._constructor(scheme).types)
        if self.parts is not None and self._is_open(scheme) and part is not None:
            own = self.parts.signature(part)
            types |= {key: annotation for key, annotation in own.items() if annotation != PART}
        return types

    def part_lists(self, scheme: str) -> list[str]:
        """Options of a scheme that are lists of further plug-ins."""
        return [key for key, annotation in self.signature(scheme).items() if get_args(annotation) == (PART,)]

    def load(self, scheme: str) -> type:
        """The class behind a scheme. Imports torch."""
        if not self.defines(scheme):
            raise ModelError(f"scheme={scheme}: there is no model/{self.group}/{scheme}.py")
        return getattr(importlib.import_module(f"model.{self.group}.{scheme}"), class_name(scheme))

    def create(self, shape: Any, part: Part) -> Any:
        """Build the plug-in that `part` describes for a model of this `shape`."""
        return self.build(shape, self.resolve(part))

    def build(self, shape: Any, resolved: Options) -> Any:
        """Build the plug-in of a resolved configuration, which is not checked again."""
        return self.load(resolved["scheme"])(shape, **arguments(resolved))

    def defines(self, scheme: Any) -> bool:
        """Return whether there is a file of this name in model/<group>."""
        return isinstance(scheme, str) and scheme.isidentifier() and (self.code / f"{scheme}.py").is_file()

    def _constructor(self, scheme: str):
        return read_constructor(self.code / f"{scheme}.py", class_name(scheme), self.root)

    def _is_open(self, scheme: str) -> bool:
        return self._constructor(scheme).open

    def _types(self, options: Options) -> dict[str, Any]:
        """The signature that these options of a YAML file belong to.

        Where the file has null for an option of a part, null is legal: the extension chooses a value for the length.
        """
        own = self._constructor(options["scheme"]).types
        types = self.signature(options["scheme"], options.get("part"))
        left_open = [key for key in types if key not in own and options.get(key, 0) is None]
        return types | {key: types[key] | None for key in left_open}

    def _read_options(self, name: str) -> Options:
        """The YAML file of `name`. Raises ModelError, naming the file, unless it fits the constructor."""
        path = self.configs / f"{name}.yaml"
        file = path.relative_to(self.root)
        try:
            options: Any = OmegaConf.to_container(OmegaConf.load(path))
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ModelError(f"{file}, line {line}, is not valid YAML: {error.problem}.") from error
        if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
            raise ModelError(f"{file} must be a mapping.\nIt begins with name: {name} and scheme: SCHEME")
        if options.get("name") != name:
            raise ModelError(f"{file}: name is {options.get('name')}.\nWrite name: {name}, as the file is called.")
        self._require_file(self, options, "scheme", f"{file}")
        scheme = options["scheme"]
        if self.parts is not None and self._is_open(scheme):
            self._require_file(self.parts, options, "part", f"{file}")
        types = self._types(options)
        described = f"{class_name(scheme)} in {(self.code / f'{scheme}.py').relative_to(self.root)}"
        for key, annotation in types.items():
            if key not in options:
                raise ModelError(
                    f"{file} has no value for `{key}`, an option of {described}.\n"
                    f"Add a line {key}: VALUE ({describe(annotation)})."
                )
        for key in options:
            if key not in ("name", "scheme", *types):
                raise ModelError(
                    f"{file}: `{key}` is not an option of {described}.\n"
                    f"Options are the arguments after `*` of __init__: {', '.join(types) or 'none'}."
                )
        return options

    def _require_file(self, registry: "Registry", options: Mapping, key: str, file: str) -> None:
        value = options.get(key)
        if not registry.defines(value):
            stems = [path.stem for path in sorted(registry.code.glob("*.py"))]
            near = difflib.get_close_matches(str(value), stems, n=1)
            hint = f"\nDid you mean {near[0]}?" if near else f"\nWrite {key}: NAME of a file in model/{registry.group}"
            raise ModelError(f"{file}: {key} is {value}, and there is no model/{registry.group}/{value}.py.{hint}")

    def _checked(self, key: str, value: Any, annotation: Any, defaults: Options) -> Any:
        if get_args(annotation) == (PART,) and isinstance(value, list):
            return [self.resolve(part) for part in value]
        if annotation == PART and isinstance(value, str | dict):
            return self.resolve(value)
        if type(value) is int and matches(float(value), annotation) and not matches(value, annotation):
            value = float(value)
        if not matches(value, annotation):
            usual = defaults[key]
            remedy = f"Correct configs/{self.group}/{defaults['name']}.yaml"
            if value != usual:
                remedy = f"Try {self.group}.{key}={usual}"
            raise ModelError(f"{self.group}.{key}={value}: expected {describe(annotation)}.\n{remedy}")
        return value


def arguments(resolved: Options) -> Options:
    """The keyword arguments of the constructor in a resolved configuration."""
    return {key: value for key, value in resolved.items() if key not in ("name", "scheme")}


def class_name(scheme: str) -> str:
    """The class in the file of a scheme: `one_hot` -> `OneHot`."""
    return "".join(word.capitalize() for word in scheme.split("_"))


def unknown(key: str, value: Any, choices: list[str], noun: str) -> str:
    """Message for a name that does not exist: the nearest one, and all of them."""
    near = difflib.get_close_matches(str(value if key.endswith(".name") else key.split(".")[-1]), choices, n=1)
    hint = f"\nDid you mean {near[0]}?" if near else ""
    return f"{key}={value}: unknown {noun}.{hint}\nThere are: {', '.join(choices)}"


def matches(value: Any, annotation: Any) -> bool:
    """Return whether a plain value (from YAML or the command line) has the annotated type. A bool is not a number."""
    if annotation is Any:
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if get_origin(annotation) is list:
        return isinstance(value, list) and all(matches(item, get_args(annotation)[0]) for item in value)
    if get_args(annotation):  # X | Y
        return any(matches(value, option) for option in get_args(annotation))
    return type(value) is annotation


def describe(annotation: Any) -> str:
    """An annotation in words, for messages: `int | None` is "int or null"."""
    if annotation is None or annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return f"a list of {describe(get_args(annotation)[0])}"
    if get_args(annotation):
        return " or ".join(describe(option) for option in get_args(annotation))
    return getattr(annotation, "__name__", str(annotation))
