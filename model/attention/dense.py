"""The dense kernel: one float32 matrix of logits and explicit masks. The reference for tests and pictures.

Shapes: q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v) -> (B, H, Tq, d_v); the queries are the last Tq of T tokens.
"""

import torch
from torch import Tensor

from .logits import LogitsSpec


def dense_attention(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec) -> Tensor:
    with torch.autocast(q.device.type, enabled=False):
        weights = softmax_with_sink(logits(q, k, spec), spec.encoding.sink())
        out = spec.encoding.values(weights, v.float(), spec.all_pairs)
    return out.to(v.dtype)


def logits(q: Tensor, k: Tensor, spec: LogitsSpec) -> Tensor:
    """All logits, float32 (B, H, Tq, T), -inf where a key is hidden."""
    block = spec.all_pairs
    return spec.encoding.scores(q.float(), k.float(), spec.scale, block) + spec.additive_mask(block)


def softmax_with_sink(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Float32 softmax over the last dimension; the denominator includes exp(sink), sink (H,), if there is one."""
    weights = torch.softmax(logits, dim=-1, dtype=torch.float32)
    if sink is None:
        return weights
    lse = torch.logsumexp(logits.float(), dim=-1, keepdim=True)
    return weights * torch.sigmoid(lse - sink.float()[:, None, None])
