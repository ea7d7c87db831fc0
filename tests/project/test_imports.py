"""Who may import whom. Read from the source, so that an import inside a function counts too."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("model", "data", "longrun", "train", "eval", "scripts")
MAY = {  # what each part may import of the others
    "model": set(),
    "data": {"longrun.base"},
    "longrun": {"model", "data"},
    "eval": {"longrun", "model", "data"},
    "train": {"longrun", "model", "data"},
    "scripts": {"longrun", "model", "data"},
}
SLOW = ("torch", "datasets", "transformers", "wandb", "pandas")
# Rooms of longrun/ that the command line passes through before torch is imported.
TORCH_FREE = ("base", "config", "runs", "tracking", "launch")

# Imports inside functions: file -> what it imports there only.
LAZY = {
    "data.corpus": {"data.loader"},
    "longrun.config.cli": {"longrun.config.compose", "longrun.config.help", "longrun.runs.run_folder"},
    "longrun.config.compose": {"longrun.evaluation.protocols.registry", "model.config"},
    "longrun.config.cross_checks": {"data.dataset", "model.init_from"},
    "longrun.config.eval_overrides": {"data.dataset"},
    "longrun.config.init_from": {"model.init_from"},
    "longrun.doctor": {"model.precision"},
    "longrun.evaluation": {"longrun.evaluation.evaluation", "longrun.evaluation.load"},
    "longrun.export": {"model.extension.base", "model.generate", "model.hf", "model.init_from"},
    "longrun.gallery.scheme_info": {"model.pe.common.regions"},
    "longrun.generate": {"model", "model.extension.base", "model.generate", "model.init"},
    "longrun.launch.hydra_plugins.longrun_processes": {
        "longrun.config.compose",
        "longrun.config.cross_checks",
        "longrun.launch.sweep",
    },
    "longrun.report.load": {"longrun.evaluation.results"},
    "longrun.report.report": {"longrun.report.figures"},
    "longrun.runs.listing": {"longrun.evaluation.results"},
    "model": {"model.factory"},
    "model.factory": {"model.checkpoint.files"},
    "model.hf": {"model.hf.load", "model.hf.save"},
    "model.init_from": {
        "model.checkpoint.state_dict",
        "model.extension.base",
        "model.factory",
        "model.hf.load",
        "model.hf.read_config",
    },
    "scripts.gallery": {"longrun.gallery.draw"},
}


def sources(part: str) -> list[Path]:
    return [ROOT / f"{part}.py"] if part in ("train", "eval") else sorted((ROOT / part).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for part in PARTS for path in sources(part) if "template" not in path.parts}


@cache
def imported(path: Path) -> frozenset[str]:
    """Our modules that a file imports anywhere; relative imports are made absolute."""
    package = path.relative_to(ROOT).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in node.names}
    return frozenset(names & MODULES.keys())


def at_top(path: Path) -> set[str]:
    """First parts of what a file imports as soon as it is imported itself."""
    body = ast.parse(path.read_text()).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("part", MAY)
def test_imports_go_one_way(part: str):
    for path in sources(part):
        if "template" in path.parts:  # copied into other folders, beside what it imports there
            continue
        for name in imported(path):
            allowed = any(name == may or name.startswith(f"{may}.") for may in {part, *MAY[part]})
            assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("part", ["model", "data"])
def test_packages_use_relative_imports_inside(part: str):
    """`model` and `data` are generic names: an absolute import could find somebody else's."""
    for path in sources(part):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] != part, f"{path}: from {node.module} import ..."


@pytest.mark.parametrize("room", TORCH_FREE)
def test_configuration_is_torch_free(room: str):
    for path in sources(f"longrun/{room}"):
        assert not at_top(path) & set(SLOW), path


def test_no_folder_for_everything_else():
    for path in ROOT.glob("*"):
        assert path.name not in ("utils", "common", "helpers", "lib", "src")
    for part in MAY:
        for path in sources(part):
            assert path.stem not in ("utils", "common", "helpers", "misc")


def test_configs_holds_yaml_only():
    assert {path.suffix for path in (ROOT / "configs").rglob("*") if path.is_file()} == {".yaml"}


def test_no_two_files_import_each_other():
    """Over however many files in between, imports inside functions included."""
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_import_by_string():
    """A module with a fixed name is imported by a statement, which an editor can follow and these tests see."""
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
                name = node.args[0]
                fixed = isinstance(name, ast.Constant) and str(name.value).lstrip(".").split(".")[0] in PARTS
                assert not fixed, f"{path.relative_to(ROOT)}:{node.lineno} imports {ast.unparse(name)} by its name"


def lazy(path: Path) -> set[str]:
    """Our modules that a file imports inside functions only."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    package = path.relative_to(ROOT).parent.parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) in inside:
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in node.names}
    return names & MODULES.keys()


def test_lazy_imports_are_these():
    """Each has a reason: the command line answers before torch is imported, and few commands need all of the rest."""
    found = {name: lazy(path) for name, path in MODULES.items() if lazy(path)}
    assert found == LAZY


@pytest.mark.parametrize("command", ["eval", "train"])
def test_the_compiler_is_imported_by_those_who_compile(command: str):
    """It takes seconds, which every command would wait for."""
    code = f"import sys, {command}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
