"""Attention written as slow loops over numbers, and a way to see the product's weights.

Nothing here calls the product for a number it is to be compared with: queries, keys and learned parameters go in, and
the formulas are the papers', one pair of channels at a time.
"""

import cmath
import math
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from model.attention import dispatch
from model.attention.dispatch import attend
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import Context, PositionEncoding
from model.pe.registry import encodings_for
from model.shape import Shape

TRAIN_LENGTH, LENGTH = 16, 40
SHAPE = Shape(width=32, heads=2, kv_heads=2, head_dim=16, layers=2, train_length=TRAIN_LENGTH)
BASE = 10000.0

Logit = Callable[[list[float], list[float], int, int, int], float | None]  # q, k, i, j, head; None where j is hidden


def encoding(pe: str | dict, shape: Shape = SHAPE) -> PositionEncoding:
    made = encodings_for(shape, pe)[0]
    if any(True for _ in made.parameters()):
        made.reset(torch.Generator().manual_seed(0))
    return made


def draw(length: int = LENGTH, shape: Shape = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys (1, H, T, d) and layer inputs (1, T, D), large enough to make attention choose."""
    generator = torch.Generator().manual_seed(1)
    q = 2 * torch.randn(1, shape.heads, length, shape.head_dim, generator=generator)
    k = torch.randn(1, shape.kv_heads, length, shape.head_dim, generator=generator)
    return q, k, torch.randn(1, length, shape.width, generator=generator)


@torch.no_grad()
def weights(
    scheme: PositionEncoding, positions: Tensor | None = None, *, queries: int | None = None, kernel: str = "dense"
) -> Tensor:
    """What the last `queries` of T queries attend to under a scheme, float32 (H, Tq, T)."""
    positions = torch.arange(LENGTH)[None] if positions is None else positions
    q, k, x = draw(positions.shape[1], scheme.shape)
    length, last = k.shape[2], queries or k.shape[2]
    contiguous = positions.dim() == 2 and bool((positions.diff(dim=1) == 1).all())
    context = Context(positions, last, TRAIN_LENGTH, length, contiguous)
    shared, state = SharedAcrossLayers.of(scheme, context), scheme.token_state(x)
    q = scheme.map_q(q[:, :, -last:], context, shared.prepared, state)
    k = scheme.map_k(k, context, shared.prepared, state)
    spec = LogitsSpec(scheme, context, shared, scheme.content_features(state, context), scheme.shape.head_dim**-0.5)
    identity = torch.eye(length).expand(1, k.shape[1], length, length)
    with mock.patch.object(dispatch, "CHUNK", 7):
        return attend(q, k, identity, spec, kernel)[0]


def expected(logit: Logit, length: int = LENGTH, shape: Shape = SHAPE) -> Tensor:
    """The same by the book: softmax over the keys j <= i that are not hidden, of logit / sqrt(d)."""
    q, k, _ = (x.double() for x in draw(length, shape))
    out = torch.zeros(shape.heads, length, length, dtype=torch.float64)
    for h in range(shape.heads):
        key_head = h * shape.kv_heads // shape.heads
        for i in range(length):
            logits = {}
            for j in range(i + 1):
                value = logit(q[0, h, i].tolist(), k[0, key_head, j].tolist(), i, j, h)
                if value is not None:
                    logits[j] = value / math.sqrt(shape.head_dim)
            largest = max(logits.values())
            total = sum(math.exp(v - largest) for v in logits.values())
            for j, v in logits.items():
                out[h, i, j] = math.exp(v - largest) / total
    return out


def pairs(x: list[float], layout: str, channels: int) -> list[complex]:
    """The first `channels` of a vector as complex numbers."""
    if layout == "half":
        return [complex(x[c], x[c + channels // 2]) for c in range(channels // 2)]
    return [complex(x[2 * c], x[2 * c + 1]) for c in range(channels // 2)]


def theta(channels: int, base: float = BASE) -> list[float]:
    return [base ** (-2 * c / channels) for c in range(channels // 2)]


def rotary(
    q: list[float],
    k: list[float],
    distance: float,
    frequencies: list[float],
    layout: str = "half",
    fade: Callable[[int], float] = lambda c: 1.0,
) -> float:
    """<R_i q, R_j k> for i - j = distance: Re of q_c conj(k_c) e^(i distance theta_c), and the channels left over."""
    channels = 2 * len(frequencies)
    turned = sum(
        fade(c) * (a * b.conjugate() * cmath.exp(1j * distance * frequencies[c])).real
        for c, (a, b) in enumerate(zip(pairs(q, layout, channels), pairs(k, layout, channels), strict=True))
    )
    return turned + sum(a * b for a, b in zip(q[channels:], k[channels:], strict=True))
