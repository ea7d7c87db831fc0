"""One attention layer with chosen queries, keys and values, and the slow way to compute what it must return.

The slow way is Python floats and loops: it shares no code and no table with the product, only the learned numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.attention import dispatch
from model.attention.dispatch import attend
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import Context, PositionEncoding
from model.pe.registry import encodings_for
from model.registry import Part
from model.shape import Shape

TRAIN_LENGTH, HEADS, HEAD_DIM, BATCH = 16, 4, 6, 2
WIDTH = HEADS * HEAD_DIM
LENGTH = 26  # past the training length

Logit = Callable[[int, int, int, int], float]  # (sequence, head, query, key) -> attention logit


def encoding_of(pe: Part, heads: int = HEADS, kv_heads: int | None = None, moved: float = 0.3) -> PositionEncoding:
    """One layer's encoding with every parameter moved off its initial value: a zero there hides a wrong term."""
    shape = Shape(heads * HEAD_DIM, heads, kv_heads or heads, HEAD_DIM, 1, TRAIN_LENGTH)
    encoding = encodings_for(shape, pe)[0]
    generator = torch.Generator().manual_seed(0)
    for module in encoding.modules():
        if isinstance(module, PositionEncoding) and any(True for _ in module.parameters()):
            module.reset(generator)
    with torch.no_grad():
        for parameter in encoding.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=moved)
    return encoding


@dataclass
class Layer:
    """Random inputs of a layer: q, k, v (B, H|H_kv, T, d), x (B, T, D), positions (1, T)."""

    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    positions: Tensor
    contiguous: bool = True

    @staticmethod
    def random(heads: int = HEADS, kv_heads: int | None = None, length: int = LENGTH, gaps: bool = False) -> "Layer":
        generator = torch.Generator().manual_seed(1)
        q = torch.randn(BATCH, heads, length, HEAD_DIM, generator=generator)
        k = torch.randn(BATCH, kv_heads or heads, length, HEAD_DIM, generator=generator)
        x = torch.randn(BATCH, length, heads * HEAD_DIM, generator=generator)
        v = torch.eye(length).expand(BATCH, heads, -1, -1)  # so that the output is the attention weights
        steps = (
            torch.randint(1, 4, (1, length), generator=generator) if gaps else torch.ones(1, length, dtype=torch.long)
        )
        return Layer(q, k, v, x, steps.cumsum(1) - steps[:, :1], not gaps)

    def with_values(self) -> "Layer":
        """The same with random values (B, H, T, d)."""
        self.v = torch.randn(self.q.shape, generator=torch.Generator().manual_seed(2))
        return self

    def run(self, encoding: PositionEncoding, kernel: str, chunk: int = 7) -> Tensor:
        """What attention returns, (B, H, T, d_v)."""
        n = self.q.shape[2]
        context = Context(self.positions, n, TRAIN_LENGTH, n, self.contiguous)
        shared, state = SharedAcrossLayers.of(encoding, context), encoding.token_state(self.x)
        q = encoding.map_q(self.q, context, shared.prepared, state)
        k = encoding.map_k(self.k, context, shared.prepared, state)
        spec = LogitsSpec(encoding, context, shared, encoding.content_features(state, context), HEAD_DIM**-0.5)
        before, dispatch.CHUNK = dispatch.CHUNK, chunk
        try:
            return attend(q, k, self.v, spec, kernel).detach()
        finally:
            dispatch.CHUNK = before


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]


def weights_of(layer: Layer, logit: Logit) -> Tensor:
    """Causal attention weights (B, H, T, T) by loops over every pair."""
    batch, heads, n, _ = layer.q.shape
    weights = torch.zeros(batch, heads, n, n, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for i in range(n):
                row = softmax([logit(b, h, i, j) for j in range(i + 1)])
                weights[b, h, i, : i + 1] = torch.tensor(row, dtype=torch.float64)
    return weights


def products(layer: Layer) -> Logit:
    """q_i k_j / sqrt(d); groups of heads share a key."""
    q, k = layer.q.tolist(), layer.k.tolist()
    group = layer.q.shape[1] // layer.k.shape[1]
    return lambda b, h, i, j: dot(q[b][h][i], k[b][h // group][j]) / math.sqrt(HEAD_DIM)


def worst(layer: Layer, encoding: PositionEncoding, logit: Logit) -> float:
    """Largest difference of attention weights between the product, by both kernels, and the loops."""
    expected = weights_of(layer, logit)
    with torch.no_grad():
        return max((layer.run(encoding, kernel) - expected).abs().max().item() for kernel in ("dense", "chunked"))
