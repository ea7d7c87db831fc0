"""Who may import whom. Read from the source, so that an import inside a function counts too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("configs", "model", "data", "scripts", "train", "eval", "tests")
MAY = {  # what each part may import of the others
    "model": set(),
    "data": set(),
    "configs": {"model.config", "model.errors", "model.registry", "model.shape"},  # and model.*.registry
    "eval": {"configs", "model", "data"},
    "train": {"configs", "model", "data", "eval"},
    "scripts": {"configs", "model", "data", "eval"},
}
SLOW = ("torch", "datasets", "transformers", "wandb", "pandas")


def sources(part: str) -> list[Path]:
    return [ROOT / f"{part}.py"] if part in ("train", "eval") else sorted((ROOT / part).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Absolute names of every module that a file imports; relative imports are made absolute."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def at_top(path: Path) -> set[str]:
    """First parts of what a file imports as soon as it is imported itself."""
    body = ast.parse(path.read_text()).body
    found = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize("part", MAY)
def test_imports_go_one_way(part: str):
    for path in sources(part):
        for name in imported(path):
            other = name.split(".")[0]
            if other not in OURS or other == part:
                continue
            allowed = any(name == may or name.startswith(f"{may}.") for may in MAY[part])
            registry = part == "configs" and name.startswith("model.") and ".registry" in name
            bare = name == "model" and part == "configs"
            assert allowed or registry or bare, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("part", ["configs", "data"])
def test_packages_use_relative_imports_inside(part: str):
    """`model` and `data` are generic names: an absolute import could find somebody else's."""
    for path in sources(part):
        if "plugins" in path.parts:  # Hydra imports those under a package name of its own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] != part, f"{path}: from {node.module} import ..."


def test_configuration_is_torch_free():
    for path in sources("configs"):
        assert not at_top(path) & set(SLOW), path


def test_no_folder_for_everything_else():
    for path in ROOT.glob("*"):
        assert path.name not in ("utils", "common", "helpers", "lib", "src")
    for part in MAY:
        for path in sources(part):
            assert path.stem not in ("utils", "common", "helpers", "misc")
