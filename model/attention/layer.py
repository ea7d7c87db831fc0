"""Multi-head attention: projections, the hooks of the encoding, the KV cache and a kernel.

Shapes: B batch, H heads, H_kv key/value heads, T all tokens (cached ones included), T' new ones, Tq queries, d head
dimension, D width.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..pe.base import Context, PositionEncoding, TokenState
from ..shape import Shape
from .dispatch import attend
from .kv_cache import LayerCache
from .logits import LogitsSpec, SharedAcrossLayers


@dataclass(frozen=True)
class LayerInputs:
    """The arguments of one layer besides x."""

    encoding: PositionEncoding
    context: Context
    shared: SharedAcrossLayers
    cache: LayerCache | None = None
    kernel: str = "auto"

    @property
    def caches_mapped_keys(self) -> bool:
        encoding = self.encoding
        fixed = encoding.cacheable_keys and self.context.contiguous and not encoding.length_dependent
        return fixed and self.cache is not None


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, shape: Shape):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        channels = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        self.qkv = nn.Linear(shape.width, channels, bias=config.bias or config.qkv_bias)
        self.out = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=config.bias)
        self.q_norm = HeadNorm(shape.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = HeadNorm(shape.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, inputs: LayerInputs) -> Tensor:
        """Normalised x (B, T', D) -> (B, Tq, D): the last Tq = context.queries tokens attend to all T."""
        encoding, context, prepared = inputs.encoding, inputs.context, inputs.shared.prepared
        q, k, v = self.qkv(x).unflatten(-1, (-1, self.head_dim)).split((self.heads, self.kv_heads, self.kv_heads), 2)
        q, k = self.q_norm(q), self.k_norm(k)
        if inputs.caches_mapped_keys:
            k = encoding.map_k(k.transpose(1, 2), context, prepared, {}).transpose(1, 2)
        tokens = {"k": k, "v": v, **encoding.token_state(x)}
        if inputs.cache is not None:
            tokens = inputs.cache.append(tokens)
        k, v = tokens["k"].transpose(1, 2), tokens["v"].transpose(1, 2)  # (B, H_kv, T, d)
        state: TokenState = {name: tensor for name, tensor in tokens.items() if name not in ("k", "v")}

        q = q[:, q.shape[1] - context.queries :].transpose(1, 2)  # (B, H, Tq, d)
        q = encoding.map_q(q, context, prepared, state)
        k = k if inputs.caches_mapped_keys else encoding.map_k(k, context, prepared, state)
        content = encoding.content_features(state, context)
        spec = LogitsSpec(encoding, context, inputs.shared, content, self.head_dim**-0.5)
        o = attend(q, k, v, spec, inputs.kernel)  # (B, H, Tq, d)
        return self.out(o.transpose(1, 2).flatten(2))


class HeadNorm(nn.RMSNorm):
    """RMS normalisation of each head's queries or keys (2302.05442), in their dtype, so that it is fused."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
