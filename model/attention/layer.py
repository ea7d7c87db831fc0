"""Multi-head attention: projections, the encoding's hooks, a kernel, and the cache of raw keys."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..pe.base import Context, PositionEncoding, TokenState
from ..shape import Shape
from .dispatch import attend
from .logits import Prepared, View


@dataclass
class LayerCache:
    """Keys, values and per-token state of one layer. Keys are raw, and mapped at use: that is exact for every scheme.
    Where a key stays what it is once it is mapped (`cacheable_keys`) it is mapped first, not again at every token."""

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
        mapped = cache is not None and encoding.cacheable_keys and context.contiguous and not encoding.length_dependent
        if mapped:
            k = encoding.map_k(k.transpose(1, 2), context, prepared.value, {}).transpose(1, 2)
        tokens = {"k": k, "v": v, **encoding.token_state(x)}
        if cache is not None:
            tokens = cache.append(tokens)
        k, v = tokens["k"].transpose(1, 2), tokens["v"].transpose(1, 2)  # (B, H_kv, T, d)
        state: TokenState = {name: tensor for name, tensor in tokens.items() if name not in ("k", "v")}

        q = q[:, q.shape[1] - context.queries :]
        q = encoding.map_q(q.transpose(1, 2), context, prepared.value, state)
        k = k if mapped else encoding.map_k(k, context, prepared.value, state)
        view = View(encoding, context, prepared, encoding.content_features(state, context), self.head_dim**-0.5)
        o = attend(q, k, v, view, kernel)  # (B, H, Tq, d)
        return self.out(o.transpose(1, 2).flatten(2))


class HeadNorm(nn.RMSNorm):
    """RMS normalisation of each head's queries or keys (2302.05442), in their own dtype: fused only if both agree."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
