"""The code of a model for a folder that brings its own: our modules as they are, in one flat layer of files.

transformers copies a model's code file by file: it follows relative imports, and knows no packages. So the modules that
a model needs, found by their imports, become longrun_<package>_<module>.py beside modeling_longrun.py, with
`from ..pe.base import X` written as `from .longrun_pe_base import X`. Nothing else in them changes.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..transformer import Transformer

PACKAGE = Path(__file__).resolve().parent.parent  # model/
TEMPLATES = Path(__file__).resolve().parent / "template"
MODELING = "modeling_longrun"
START = ("config", "transformer", "pe.registry", "positions.registry")  # what modeling_longrun.py imports


def write_code(model: Transformer, folder: Path) -> dict[str, Any]:
    """Write the code that `model` needs into `folder`; returns its part of config.json."""
    options = model.config
    plug_ins = sorted({f"{group}.{scheme}" for group, scheme in schemes(options)})
    start = [*START, *(["extension.base"] if options.get("extension") else []), *plug_ins]
    modules = closure(start)
    for name in modules:
        if name == "registry":
            text = (TEMPLATES / "registry.py").read_text(encoding="utf-8")
        else:
            text = f"# Longrun's model/{name.replace('.', '/')}.py\n" + flattened(name)
        (folder / f"{flat(name)}.py").write_text(text, encoding="utf-8")
    modeling = (TEMPLATES / f"{MODELING}.py").read_text(encoding="utf-8")
    (folder / f"{MODELING}.py").write_text(modeling + mentions(modules), encoding="utf-8")
    return {
        "model_type": "longrun",
        "architectures": ["LongrunForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{MODELING}.LongrunConfig",
            "AutoModelForCausalLM": f"{MODELING}.LongrunForCausalLM",
        },
        "vocab_size": model.vocab_size,
        "hidden_size": model.shape.width,
        "num_hidden_layers": model.shape.layers,
        "num_attention_heads": model.shape.heads,
        "max_position_embeddings": options.get("extension_length") or model.train_length,
        "tie_word_embeddings": False,
        "use_cache": False,
        "longrun": options,
    }


def schemes(options: Any, group: str = "") -> Iterator[tuple[str, str]]:
    """(group, scheme) of every plug-in in a settled configuration."""
    if isinstance(options, dict):
        if group and "scheme" in options:
            yield group, options["scheme"]
            if isinstance(options.get("part"), str):  # an extension with a scheme of model/pe
                yield "pe", options["part"]
        for key, value in options.items():
            yield from schemes(value, key if key in ("pe", "positions", "extension") else group)
    elif isinstance(options, list):
        for item in options:
            yield from schemes(item, group)


def closure(start: list[str]) -> list[str]:
    """Modules of `model` that these import, and those import, and so on."""
    found: list[str] = []
    left = list(start)
    while left:
        name = left.pop()
        if name in found:
            continue
        found.append(name)
        if name != "registry":  # has a counterpart of its own, which imports nothing of ours
            left += [module for _, modules in imports(name) for module in modules]
    return sorted(found)


def imports(name: str) -> Iterator[tuple[ast.ImportFrom, list[str]]]:
    """Each relative import of a module with the modules it is about."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            if imports_modules(node, base):
                yield node, [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            else:
                yield node, [base]


def imports_modules(node: ast.ImportFrom, base: str) -> bool:
    """Whether `from base import a, b` is about modules: base is a package."""
    return not node.module or (PACKAGE / base.replace(".", "/")).is_dir()


def flattened(name: str) -> str:
    """The text of a module with its relative imports written for the flat layer."""
    lines = source(name).splitlines(keepends=True)
    for node, modules in imports(name):
        first = node.lineno - 1
        if modules[0].rsplit(".", 1)[-1] == (node.module or "").rsplit(".", 1)[-1]:
            lines[first] = re.sub(r"from\s+\.+\S+\s+import", f"from .{flat(modules[0])} import", lines[first], count=1)
        else:
            assert node.end_lineno == node.lineno, f"model/{name}: `from . import` over several lines"
            words = [
                f"{flat(module)} as {alias.asname or alias.name}"
                for module, alias in zip(modules, node.names, strict=True)
            ]
            lines[first] = f"{' ' * node.col_offset}from . import {', '.join(words)}\n"
    return "".join(lines)


def mentions(modules: list[str]) -> str:
    """Imports by which transformers finds the files that are imported by name only, or as `from . import`."""
    lines = [f"from .{flat(name)} import __name__ as _  # noqa: E402, F401" for name in modules]
    return "\n\n# So that transformers copies these files with this one.\n" + "\n".join(lines) + "\n"


def source(name: str) -> str:
    return (PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")


def flat(name: str) -> str:
    return f"longrun_{name.replace('.', '_')}"
