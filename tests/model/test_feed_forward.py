"""Feed-forward blocks as plug-ins: one Python file and one YAML file, found by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model import build
from model.config import ModelConfig
from model.errors import ModelError
from model.feed_forward.registry import blocks, create, default_width

ROOT = Path(__file__).resolve().parents[2]
BLOCK = '''
import torch.nn.functional as F
from torch import Tensor

from .base import FeedForward


class Relu2(FeedForward):
    """Squared ReLU (2109.08668)."""

    def __init__(self, width: int, inner_width: int, bias: bool, *, gain: float):
        super().__init__(width, inner_width, bias)
        self.gain = gain

    def activation(self, x: Tensor) -> Tensor:
        return self.gain * F.relu(x).square()
'''
BUILD = """
import torch
from model import build
from model.feed_forward.registry import default_width

model = build(16, 8, {"layers": 1, "width": 8, "heads": 2, "mlp": "relu2"})
up, down = (model.get_parameter(f"layers.0.mlp.{name}.weight") for name in ("up", "down"))
x = torch.randn(3, 8)
assert default_width("relu2", 8) == 32 == len(up) and model.config["model"]["mlp"] == "relu2"
torch.testing.assert_close(model.layers[0].mlp(x), 2 * (x @ up.T).clamp(min=0) ** 2 @ down.T)
"""


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("swiglu", lambda x: F.silu(x[:, :12]) * x[:, 12:]),
        ("gelu", F.gelu),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
    ],
)
def test_the_equation(name: str, activation):
    block, x = create(name, 8, 12, bias=True), torch.randn(5, 8)
    torch.testing.assert_close(block(x), block.down(activation(block.up(x))))


def test_default_widths():
    """About 8 width^2 parameters."""
    assert [default_width(name, 128) for name in ("swiglu", "gelu", "gelu_tanh")] == [336, 512, 512]
    assert ModelConfig(ffn_width=5).resolved_ffn_width == 5


def test_a_new_block_is_one_file_and_one_yaml(tmp_path: Path):
    for folder in ("model", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "model/feed_forward/relu2.py").write_text(BLOCK)
    (tmp_path / "configs/feed_forward/relu2.yaml").write_text("name: relu2\nscheme: relu2\ngain: 2.0\n")
    run = subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"model.mlp=swigl: .*gelu_tanh, swiglu\nDid you mean model.mlp=swiglu\?"):
        build(16, 8, {"mlp": "swigl"})


@pytest.mark.parametrize("name", blocks.names())
def test_checkpoints_have_the_same_names_for_every_block(name: str):
    model = build(16, 8, {"layers": 1, "width": 8, "heads": 2, "mlp": name})
    names = {key for key in model.state_dict() if ".mlp." in key}
    assert names == {"layers.0.mlp.up.weight", "layers.0.mlp.down.weight"}


@pytest.mark.parametrize(
    ("old", "new"), [("parallel", "parallel_residual"), ("sandwich", "post_norm"), ("hidden", "ffn_width")]
)
def test_an_old_key_is_refused_with_the_new_one(old: str, new: str):
    with pytest.raises(ModelError, match=rf"model.{old}=1: model.{old} was renamed, write model.{new}=1"):
        build(16, 8, {old: 1})
