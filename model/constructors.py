"""Constructor options of plug-ins, read from their source text instead of by importing them.

Importing a plug-in imports torch, which takes about 1.6 s. With the syntax tree a command refuses a wrong option before
that. The price is this file, and that the annotation of an option may use only the names in `TYPES`.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .errors import ModelError

PART = "part"  # what the annotation `Part` (of model/registry.py) becomes here
TYPES = {"Literal": Literal, "Any": Any, "Part": PART, "int": int, "float": float, "bool": bool, "str": str}
TYPES |= {"list": list, "dict": dict, "None": None}


@dataclass(frozen=True)
class Constructor:
    """types: the keyword options and their types.  open: it also has `**options`."""

    types: dict[str, Any]
    open: bool


@cache
def read_constructor(path: Path, name: str, root: Path) -> Constructor:
    """The constructor of class `name` in the file `path`; if it is inherited, that of the first base class.

    root: the folder that paths in messages start from.
    Raises ModelError for a syntax error, a missing class, and an option without a type.
    """
    file, classes, imported = _parsed(path, root)
    if name not in classes:
        defined = f" It defines {', '.join(classes)}." if classes else ""
        raise ModelError(f"{file} has no class {name}.{defined}\nThe class is named after its file: class {name}(...)")
    for node in classes[name].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            types = {option.arg: _type(option, f"{file}, line {option.lineno}") for option in node.args.kwonlyargs}
            return Constructor(types, node.args.kwarg is not None)
    bases = classes[name].bases
    base = bases[0].id if bases and isinstance(bases[0], ast.Name) else ""
    if base in classes:
        return read_constructor(path, base, root)
    if base in imported:
        return read_constructor(imported[base], base, root)
    return Constructor({}, False)


def _parsed(path: Path, root: Path) -> tuple[str, dict[str, ast.ClassDef], dict[str, Path]]:
    """The path in messages, the classes of the file, and the files of what it imports by relative imports."""
    file = str(path.relative_to(root))
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ModelError(f"{file}, line {error.lineno}: {error.msg}.\nCorrect the line: {line}") from error
    imported = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            source = path.parents[node.level - 1].joinpath(*node.module.split(".")).with_suffix(".py")
            imported |= {alias.asname or alias.name: source for alias in node.names if source.is_file()}
    return file, {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}, imported


def _type(option: ast.arg, place: str) -> Any:
    """The type of an option. `eval` sees `TYPES` and nothing else, and no text but that of our own files."""
    if option.annotation is None:
        raise ModelError(f"{place}: the option `{option.arg}` has no type.\nAnnotate it, for example {option.arg}: int")
    text = ast.unparse(option.annotation)
    try:
        return eval(text, {"__builtins__": {}}, TYPES)
    except (NameError, TypeError, AttributeError, SyntaxError):
        raise ModelError(
            f"{place}: the type of the option `{option.arg}` is {text}.\n"
            f"Options come from YAML. Their types are made of {', '.join(TYPES)} and |"
        ) from None
