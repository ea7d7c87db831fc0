"""Write the modules that a model needs next to its weights, for `trust_remote_code=True`.

transformers copies the code of a model file by file: it follows relative imports and does not support packages. So the
needed modules, found by their imports, become longrun_<package>_<module>.py beside modeling_longrun.py, and
`from ..pe.base import X` becomes `from .longrun_pe_base import X`. Nothing else in them changes.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..feed_forward.registry import blocks
from ..transformer import Transformer

PACKAGE = Path(__file__).resolve().parent.parent  # model/
TEMPLATES = Path(__file__).resolve().parent / "template"
MODELING = "modeling_longrun"
START = ("config", "init", "transformer", "pe.registry", "positions.registry")  # what modeling_longrun.py imports


def write_code(model: Transformer, folder: Path) -> dict[str, Any]:
    """Write the code that `model` needs into `folder`; returns its part of config.json."""
    options = model.config
    block = blocks.resolve(options["model"]["mlp"])
    plug_ins = sorted({f"{group}.{scheme}" for group, scheme in schemes(options)} | {f"feed_forward.{block['scheme']}"})
    start = [*START, *(["extension.base"] if options.get("extension") else []), *plug_ins]
    modules = closure(start)
    for name in modules:
        if name == "registry":
            text = (TEMPLATES / "registry.py").read_text(encoding="utf-8")
            text = text.replace("FEED_FORWARD: dict[str, Any] = {}", f"FEED_FORWARD: dict[str, Any] = {block!r}")
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
    """(group, scheme) of every plug-in in a resolved configuration."""
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
    """These modules of `model` and all modules that they import, directly or not."""
    modules: set[str] = set()
    pending = list(start)
    while pending:
        name = pending.pop()
        if name not in modules:
            modules.add(name)
            if name != "registry":  # replaced by template/registry.py, which imports nothing of ours
                pending += [module for each in relative_imports(name) for module in each.modules]
    return sorted(modules)


@dataclass(frozen=True)
class RelativeImport:
    """`from source import names`, with `source` as a path from model/. If it is a package, the names are modules."""

    node: ast.ImportFrom
    source: str

    @property
    def from_package(self) -> bool:
        return (PACKAGE / self.source.replace(".", "/")).is_dir()

    @property
    def modules(self) -> list[str]:
        if not self.from_package:
            return [self.source]
        return [f"{self.source}.{alias.name}".lstrip(".") for alias in self.node.names]


def relative_imports(name: str) -> Iterator[RelativeImport]:
    """The relative imports of a module, also those inside functions."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parents = package[: len(package) - node.level + 1]
            yield RelativeImport(node, ".".join([*parents, *([node.module] if node.module else [])]))


def flattened(name: str) -> str:
    """The text of a module with its relative imports rewritten for the flat folder."""
    lines = source(name).splitlines(keepends=True)
    for each in relative_imports(name):
        node, first = each.node, each.node.lineno - 1
        if each.from_package:
            assert node.end_lineno == node.lineno, f"model/{name}: import modules of a package on one line"
            aliases = zip(each.modules, node.names, strict=True)
            names = [f"{flat(module)} as {alias.asname or alias.name}" for module, alias in aliases]
            lines[first] = f"{' ' * node.col_offset}from . import {', '.join(names)}\n"
        else:  # the names may stand on further lines
            statement = f"from .{flat(each.source)} import"
            lines[first] = re.sub(r"from\s+\.+\S+\s+import", statement, lines[first], count=1)
    return "".join(lines)


def mentions(modules: list[str]) -> str:
    """Imports that make transformers copy the files which are imported by name only, or as `from . import`."""
    lines = [f"from .{flat(name)} import __name__ as _  # noqa: E402, F401" for name in modules]
    return "\n\n# Makes transformers copy these files with this one.\n" + "\n".join(lines) + "\n"


def source(name: str) -> str:
    """The text of a module, by its path from model/ with dots."""
    return (PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")


def flat(name: str) -> str:
    """The name of a module in the flat folder: `pe.base` -> `longrun_pe_base`."""
    return f"longrun_{name.replace('.', '_')}"
