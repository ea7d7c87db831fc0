"""A new optimizer is one file and one YAML, in a copy of the repository; mistakes in them name the file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_configs import ROOT

SGD = """
import torch

from longrun.training.parameters import by_decay


def sgd(model, *, lr: float, weight_decay: float, momentum: float = 0.9, nesterov: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(by_decay(model.parameters(), weight_decay), lr=lr, momentum=momentum, nesterov=nesterov)
"""
YAML = """
defaults:
  - adamw
  - _self_
name: sgd
lr: 0.1
nesterov: true
"""
SMALL = (
    "data=parity optim=sgd train.length=16 train.steps=2 train.batch=4 model.layers=1 model.width=16 model.heads=2 "
    "eval_at_end=false tracker=off train.device=cpu train.valid_windows=2"
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("configs", "data", "longrun", "model"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", folder)
    return folder


def train(folder: Path, words: str = "", code: str = SGD, values: str = YAML) -> subprocess.CompletedProcess:
    (folder / "longrun/training/optimizers/sgd.py").write_text(code)
    (folder / "configs/optim/sgd.yaml").write_text(values)
    return subprocess.run(
        [sys.executable, "train.py", *SMALL.split(), *words.split()],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_file_and_a_yaml_are_an_optimizer(copy: Path):
    done = train(copy, "optim.momentum=0.5")
    assert done.returncode == 0, done.stderr
    again = train(copy, "optim.momentum=0.5")
    assert "is finished" in again.stdout


@pytest.mark.parametrize(
    ("words", "code", "values", "expected"),
    [
        ("optim.momentum=x", SGD, YAML, ["optim.momentum=x: expected a number"]),
        ("optim.momentun=0.5", SGD, YAML, ["there is no key optim.momentun", "optim.momentum"]),
        ("", SGD, YAML.replace("nesterov: true", ""), ["optim.nesterov is missing"]),
        (
            "",
            SGD,
            YAML + "rho: 1\n",
            ["sgd.yaml: rho is not an option of sgd in longrun/training", "nesterov"],
        ),
        ("", SGD, YAML.replace("name: sgd", "name: sdg"), ["configs/optim/sgd.yaml: name=sdg, expected name: sgd"]),
        ("", SGD, YAML.replace("name: sgd", ""), ["configs/optim/sgd.yaml: name=null, expected name: sgd"]),
        ("optim.name=sgdd", SGD, YAML, ["Did you mean optim.name=sgd?", "adamw, muon, sgd"]),
        ("", SGD.replace("def sgd", "def build"), YAML, ["sgd.py: expected a function sgd(", "build"]),
        ("", SGD.replace("nesterov: bool)", "nesterov)"), YAML, ["sgd.py: expected nesterov: TYPE"]),
        ("", SGD + "\n)", YAML, ["sgd.py, line 10: unmatched ')'"]),
    ],
)
def test_a_mistake_is_refused_before_torch_is_imported(
    copy: Path, words: str, code: str, values: str, expected: list[str]
):
    done = train(copy, f"seed=1 {words}", code, values)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in expected:
        assert part in done.stderr


def test_a_function_that_returns_something_else_is_refused(copy: Path):
    done = train(copy, "seed=2", SGD.replace("    return ", "    "))
    assert done.returncode == 2, done.stderr
    assert "sgd.py: sgd returns None, expected a torch.optim.Optimizer" in done.stderr
