"""Finding plug-ins by name, without importing torch.

A plug-in is one Python file and at least one YAML file:

    configs/<group>/<name>.yaml     name: <name>, scheme: <scheme>, then a value for every option
    model/<group>/<scheme>.py       class <Scheme>(...): def __init__(self, shape, *, option: type, ...)

Values live in the YAML, types in the constructor's signature. The signature is read from the source text, so a wrong
option is answered before torch is imported. A plug-in is only ever a *name*: a file someone sent you cannot point at
code.
"""

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from omegaconf import OmegaConf

from .errors import ModelError

ROOT = Path(__file__).resolve().parent
CONFIGS = ROOT.parent / "configs"

Part = str | dict  # an option annotated `Part` or `list[Part]` holds further plug-ins of the same group
_TYPES = {"Literal": Literal, "Any": Any, "Part": "part", "int": int, "float": float, "bool": bool, "str": str}
_TYPES |= {"list": list, "dict": dict, "None": None}


class Registry:
    """The plug-ins of one group (`pe`, `positions`, `extension`)."""

    def __init__(self, group: str, what: str):
        self.group, self.what = group, what

    def names(self) -> list[str]:
        """Every name that can be selected: one per YAML file."""
        return sorted(path.stem for path in (CONFIGS / self.group).glob("*.yaml"))

    def options(self, name: str) -> dict[str, Any]:
        """The YAML of `name` as a dict (`name`, `scheme`, and its options)."""
        if name not in self.names():
            raise ModelError(unknown(f"{self.group}.name", name, self.names(), self.what))
        return dict(_yaml(CONFIGS / self.group / f"{name}.yaml"))

    def resolve(self, given: Part) -> dict[str, Any]:
        """Complete `given` from the YAML of its name and check every option against the constructor.

        Raises ModelError for an unknown name, an unknown option or a value of the wrong type.
        """
        given = {"name": given} if isinstance(given, str) else dict(given)
        if not isinstance(given.get("name"), str):
            raise ModelError(f"{self.group}={given}: a {self.what} is chosen by its name.\nTry {self.group}.name=NAME")
        known = self.options(given["name"])
        for key in given:
            if key not in known:
                raise ModelError(unknown(f"{self.group}.{key}", given[key], [*known], f"option of {known['name']}"))
        if given.get("scheme", known["scheme"]) != known["scheme"]:
            raise ModelError(f"{self.group}.scheme={given['scheme']}: {known['name']} is a {known['scheme']}.")
        merged = known | given
        for key, annotation in self.signature(known["scheme"]).items():
            merged[key] = self._checked(key, merged.get(key), annotation, known)
        return merged

    def signature(self, scheme: str) -> dict[str, Any]:
        """Keyword options of the constructor and their types: {option: type}."""
        return _signature(ROOT / self.group, scheme, class_name(scheme))

    def part_lists(self, scheme: str) -> list[str]:
        """Options of a scheme that are lists of further plug-ins: it is made of those."""
        return [key for key, annotation in self.signature(scheme).items() if get_args(annotation) == ("part",)]

    def load(self, scheme: str) -> type:
        """The class behind a scheme. Imports torch."""
        if not scheme.isidentifier() or not (ROOT / self.group / f"{scheme}.py").is_file():
            raise ModelError(f"scheme={scheme}: there is no model/{self.group}/{scheme}.py")
        return getattr(importlib.import_module(f"model.{self.group}.{scheme}"), class_name(scheme))

    def create(self, shape: Any, given: Part) -> Any:
        """Build the plug-in that `given` describes for a model of this `shape`."""
        resolved = self.resolve(given)
        options = {key: resolved[key] for key in self.signature(resolved["scheme"])}
        return self.load(resolved["scheme"])(shape, **options)

    def _checked(self, key: str, value: Any, annotation: Any, known: dict[str, Any]) -> Any:
        if get_args(annotation) == ("part",) and isinstance(value, list):
            return [self.resolve(part) for part in value]
        if annotation == "part" and isinstance(value, str | dict):
            return self.resolve(value)
        if type(value) is int and matches(float(value), annotation) and not matches(value, annotation):
            value = float(value)
        if not matches(value, annotation):
            raise ModelError(
                f"{self.group}.{key}={value}: expected {describe(annotation)}.\nTry {self.group}.{key}={known.get(key)}"
            )
        return value


def class_name(scheme: str) -> str:
    """`one_hot` -> `OneHot`: the class a file holds is its name in capitals."""
    return "".join(word.capitalize() for word in scheme.split("_"))


def unknown(key: str, value: Any, choices: list[str], what: str) -> str:
    """Message for a name that does not exist: the nearest one, and all of them."""
    near = difflib.get_close_matches(str(value if key.endswith(".name") else key.split(".")[-1]), choices, n=1)
    hint = f"\nDid you mean {near[0]}?" if near else ""
    return f"{key}={value}: unknown {what}.{hint}\nThere are: {', '.join(choices)}"


def matches(value: Any, annotation: Any) -> bool:
    """Whether a plain value (from YAML or the command line) has the annotated type. bool is never a number."""
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
    if annotation is None or annotation is type(None):
        return "null"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return f"a list of {describe(get_args(annotation)[0])}"
    if get_args(annotation):
        return " or ".join(describe(option) for option in get_args(annotation))
    return getattr(annotation, "__name__", str(annotation))


@cache
def _yaml(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path))


@cache
def _signature(folder: Path, module: str, name: str) -> dict[str, Any]:
    tree = ast.parse((folder / f"{module}.py").read_text())
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return {arg.arg: _evaluate(arg.annotation) for arg in node.args.kwonlyargs}
    base = cls.bases[0].id if cls.bases and isinstance(cls.bases[0], ast.Name) else ""
    for node in tree.body:  # the constructor is inherited: look where the base class comes from
        if isinstance(node, ast.ClassDef) and node.name == base:
            return _signature(folder, module, base)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and base in [alias.name for alias in node.names]:
            return _signature(folder, node.module or "", base)
    return {}


def _evaluate(annotation: ast.expr | None) -> Any:
    assert annotation is not None, "every option of a plug-in needs a type"
    return eval(ast.unparse(annotation), {"__builtins__": {}}, _TYPES)
