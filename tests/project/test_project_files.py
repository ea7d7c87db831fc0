"""The files around the code: what a fresh clone is built from, and the sizes we keep to."""

import ast
import os
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PRODUCT = [ROOT / "train.py", ROOT / "eval.py"] + [
    path for part in ("longrun", "model", "data", "scripts") for path in sorted((ROOT / part).rglob("*.py"))
]


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[<>=\[ ]", requirement)[0].lower() for requirement in requirements]


def test_every_dependency_is_pinned():
    pinned = {name.lower().replace("_", "-") for name in PINS}
    wanted = names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        wanted += names(extra)
    assert set(wanted) <= pinned


def test_pins_are_versions_and_nothing_else():
    """No host, no path, no local build tag: the file must work wherever packages come from."""
    for name, pin in PINS.items():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
        assert re.fullmatch(r"[0-9][A-Za-z0-9.]*", pin), f"{name}=={pin}"


@pytest.mark.parametrize("name", ["torch", "hydra-core", "omegaconf", "tokenizers", "safetensors", "numpy"])
def test_the_tests_run_with_the_pinned_versions(name: str):
    assert version(name).split("+")[0] == PINS[name]


def test_what_we_import_is_a_dependency():
    """Module names that differ from the package's are listed; the rest are looked up as they are."""
    packages = {"hydra": "hydra-core", "omegaconf": "hydra-core", "yaml": "pyyaml", "PIL": "pillow"}
    packages |= {"markupsafe": "jinja2", "huggingface_hub": "huggingface-hub", "wandb_workspaces": "wandb-workspaces"}
    declared = set(names(PROJECT["dependencies"]))
    optional = {name for extra in PROJECT["optional-dependencies"].values() for name in names(extra)}
    ours = {"longrun", "model", "data", "eval", "train", "scripts", "hydra_plugins"}
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules.append(node.module or "")
            for top in {module.split(".")[0] for module in modules} - ours - set(__import__("sys").stdlib_module_names):
                assert packages.get(top, top) in declared | optional, f"{path.relative_to(ROOT)} imports {top}"


def test_make_lists_its_targets():
    done = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert listed >= {"demo", "test", "check", "stress", "table", "gallery", "bench", "clean"}


@pytest.mark.parametrize("target", ["demo", "test", "check", "stress", "table", "gallery", "bench"])
def test_make_targets_build_the_environment_first(target: str):
    command = ["make", "-C", ROOT, "-n", target, "PYTHON=some-python", "VENV=/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert any("some-python -m venv /nowhere" in line for line in lines)
    assert any("-c constraints.txt" in line for line in lines)
    assert any(line.startswith("/nowhere/bin/python ") for line in lines)


def test_ci_runs_what_a_person_runs():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


def test_generated_folders_are_ignored_and_packages_are_not():
    generated = ["runs/x", ".venv/x", "longrun.egg-info/x", "wandb/x"]
    rooms = [f"{path.parent.relative_to(ROOT)}/x.py" for path in PRODUCT] + ["configs/data/x.yaml"]
    command = ["git", "-C", str(ROOT), "check-ignore", *generated, *sorted(set(rooms))]
    ignored = subprocess.run(command, capture_output=True, text=True)
    if ignored.returncode == 128:
        pytest.skip("not a git checkout")
    assert ignored.stdout.split() == generated
