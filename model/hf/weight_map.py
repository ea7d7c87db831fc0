"""Conversion of a checkpoint's tensors to ours and back. The table of a family assigns a rule to each tensor.

`load(tensors, shape)` receives the tensors of `names`, in that order; `save(tensor, shape)` returns them. Rows of a
weight and entries of a bias are treated alike, so one rule serves both.

Shapes: H heads, K key/value heads, d head dimension. Our qkv has rows (q: H d, k: K d, v: K d), our mlp.up has the gate
first.
"""

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

from ..shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Rule:
    def __init__(self, *names: str):
        self.names = names

    def load(self, tensors: "list[Tensor]", shape: Shape) -> "Tensor":
        raise NotImplementedError

    def save(self, tensor: "Tensor", shape: Shape) -> "list[Tensor]":
        raise NotImplementedError

    def renamed(self, change: Callable[[str], str]) -> "Rule":
        """The same rule for other names."""
        other = copy(self)
        other.names = tuple(change(name) for name in self.names)
        return other


class Rename(Rule):
    """The same tensor under another name. also: a second name in some checkpoints."""

    def __init__(self, name: str, also: str | None = None):
        super().__init__(name)
        self.also = also

    def load(self, tensors, shape):
        return tensors[0]

    def save(self, tensor, shape):
        return [tensor]


class Transposed(Rename):
    """(in, out) instead of (out, in): GPT-2's Conv1D. Biases are unchanged."""

    def load(self, tensors, shape):
        return tensors[0].mT if tensors[0].dim() == 2 else tensors[0]

    def save(self, tensor, shape):
        return [tensor.mT if tensor.dim() == 2 else tensor]


class Concat(Rule):
    """Several tensors concatenated along the rows. `sizes(rows, shape)`: the number of rows of each."""

    def __init__(self, *names: str, sizes: Callable[[int, Shape], list[int]]):
        super().__init__(*names)
        self.sizes = sizes

    def load(self, tensors, shape):
        import torch

        return torch.cat(tensors)

    def save(self, tensor, shape):
        return list(tensor.split(self.sizes(len(tensor), shape)))


class InterleavedQKV(Rule):
    """q, k and v head by head, (H, 3, d), instead of all q, all k and all v, (3, H, d)."""

    def load(self, tensors, shape):
        return tensors[0].unflatten(0, (shape.heads, 3, shape.head_dim)).transpose(0, 1).flatten(0, 2)

    def save(self, tensor, shape):
        return [tensor.unflatten(0, (3, shape.heads, shape.head_dim)).transpose(0, 1).flatten(0, 2)]


def projections(q: str, k: str, v: str) -> Concat:
    """Our qkv, from three projections."""
    return Concat(
        q, k, v, sizes=lambda rows, shape: [n * shape.head_dim for n in (shape.heads, shape.kv_heads, shape.kv_heads)]
    )


def gated(gate: str, up: str) -> Concat:
    """Our mlp.up, from the gate and the gated projection."""
    return Concat(gate, up, sizes=lambda rows, shape: [rows // 2, rows // 2])


def with_biases(rules: dict[str, Rule]) -> dict[str, Rule]:
    """The table, and the same rule for the bias of each weight: `*.weight` becomes `*.bias` on both sides."""
    biases = {}
    for name, rule in rules.items():
        if name.endswith(".weight") and not name.startswith(("embedding.", "head.")):
            biases[f"{name.removesuffix('weight')}bias"] = rule.renamed(lambda n: f"{n.removesuffix('weight')}bias")
    return rules | biases
