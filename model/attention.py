"""Multi-head attention: projections, the encoding's hooks, a kernel, and the cache of raw keys."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .kernels import View, attend
from .pe.base import Block, Context, PositionEncoding, State
from .shape import Shape

SHARED = 2**26  # bytes of biases that are made once for all layers, rather than block by block in each


@dataclass(frozen=True)
class Prepared:
    """What an encoding computes once a forward pass, for all the layers it acts in."""

    value: Any
    table: Tensor | None
    bias: Tensor | None = None  # (B|1, H|1, Tq, T), of an encoding whose layers all add the same
    memo: dict = field(default_factory=dict)  # what a kernel computes for all of these layers

    @staticmethod
    def of(encoding: PositionEncoding, context: Context) -> "Prepared":
        positions = context.positions
        with torch.autocast(positions.device.type, enabled=False):  # angles, distances and biases are float32
            table = encoding.table(context.span, positions.device) if encoding.overrides("table") else None
            value = encoding.prepare(context)
            shared = _shared(encoding, context)
            return Prepared(value, table, encoding.bias(_whole(encoding, context, value)) if shared else None)


def _whole(encoding: PositionEncoding, context: Context, value: Any) -> Block:
    """All queries against all keys, for an encoding that keeps no state of the tokens."""
    total = context.positions.shape[1]
    return Block(context, value, encoding.digest({}, context), slice(total - context.queries, total), slice(0, total))


def _shared(encoding: PositionEncoding, context: Context) -> bool:
    """Whether one tensor of biases serves all layers: content has no part in them, and it is small."""
    rows, total, *_ = context.positions.shape
    size = 4 * rows * encoding.shape.heads * context.queries * total
    by_content = encoding.overrides("state", "digest")
    return encoding.overrides("bias") and not by_content and not encoding.per_layer and size <= SHARED


@dataclass
class LayerCache:
    """Keys, values and per-token state of one layer. Keys are raw, and mapped at use: that is exact for every scheme.
    Where a key stays what it is once it is mapped (`keys_stay`) it is mapped first, and not again at every token."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def append(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add tokens along dimension 1 and return all of them."""
        for name, tensor in new.items():
            old = self.tensors.get(name)
            self.tensors[name] = tensor if old is None else torch.cat([old, tensor], dim=1)
        return self.tensors


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, shape: Shape):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        channels = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        self.qkv = nn.Linear(shape.width, channels, bias=config.bias or config.qkv_bias)
        self.out = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=config.bias)
        self.q_norm = HeadNorm(shape.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = HeadNorm(shape.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,  # (B, T', D), normalised; the last context.queries of them attend
        encoding: PositionEncoding,
        context: Context,
        prepared: Prepared,
        cache: LayerCache | None = None,
        kernel: str = "auto",
    ) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dim)).split((self.heads, self.kv_heads, self.kv_heads), 2)
        q, k = self.q_norm(q), self.k_norm(k)
        mapped = cache is not None and encoding.keys_stay and context.contiguous and not encoding.length_dependent
        if mapped:
            k = encoding.map_k(k.transpose(1, 2), context, prepared.value, {}).transpose(1, 2)
        tokens = {"k": k, "v": v, **encoding.state(x)}
        if cache is not None:
            tokens = cache.append(tokens)
        k, v = tokens["k"].transpose(1, 2), tokens["v"].transpose(1, 2)  # (B, H_kv, T, d)
        state: State = {name: tensor for name, tensor in tokens.items() if name not in ("k", "v")}

        q = q[:, q.shape[1] - context.queries :]
        q = encoding.map_q(q.transpose(1, 2), context, prepared.value, state)
        k = k if mapped else encoding.map_k(k, context, prepared.value, state)
        digest = encoding.digest(state, context)
        scale = self.head_dim**-0.5
        view = View(encoding, context, prepared.value, prepared.table, digest, scale, prepared.bias, prepared.memo)
        o = attend(q, k, v, view, kernel)  # (B, H, Tq, d)
        return self.out(o.transpose(1, 2).flatten(2))


class HeadNorm(nn.RMSNorm):
    """RMS normalisation of each head's queries or keys (2302.05442), in their own dtype: fused only if both agree."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class MLP(nn.Module):
    """SwiGLU (2002.05202) or GELU (1606.08415), which GPT-2 and Bloom approximate with tanh."""

    def __init__(self, config: ModelConfig, shape: Shape):
        super().__init__()
        hidden = config.hidden_width
        self.gated, self.approximate = config.mlp == "swiglu", "tanh" if config.mlp == "gelu_tanh" else "none"
        self.up = nn.Linear(shape.width, 2 * hidden if self.gated else hidden, bias=config.bias)
        self.down = nn.Linear(hidden, shape.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.down(F.gelu(self.up(x), approximate=self.approximate))
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)
