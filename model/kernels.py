"""The attention kernels. All take what `View` describes and agree in values and gradients wherever each is legal.

`dense`    the oracle: one float32 matrix of logits, masks by explicit comparison. For tests.
`chunked`  blocks of queries against the keys they may see: memory O(T) for inference, nothing above the diagonal
           beyond a block, biases over distance through a strided view. The CPU's default and the home of every
           content-dependent scheme.
`flash`    torch's scaled_dot_product_attention, for schemes that leave the logits alone.
`flex`     compiled FlexAttention for biases, masks and regions on CUDA (flex.py).

Shapes: q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v) -> (B, H, Tq, d_v); the queries are the last Tq of T tokens.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import flex, toeplitz
from .pe.base import Block, Context, PositionEncoding

CHUNK = toeplitz.CHUNK
NEVER = float("-inf")


@dataclass(frozen=True)
class View:
    """How a layer's queries see its keys: the encoding and what it computed for this forward pass."""

    encoding: PositionEncoding
    context: Context
    prepared: Any  # encoding.prepare(context)
    table: Tensor | None  # encoding.table(n), float32 (H|1, n)
    digest: Any  # encoding.digest(state, context)
    scale: float
    bias: Tensor | None = None  # encoding.bias of all queries and keys, where it was made once for all layers
    memo: dict = field(default_factory=dict)  # what a kernel computes once a forward pass

    def block(self, rows: slice, columns: slice) -> Block:
        return Block(self.context, self.prepared, self.digest, rows, columns)

    def whole(self, q: Tensor, k: Tensor) -> Block:
        return self.block(slice(k.shape[2] - q.shape[2], k.shape[2]), slice(0, k.shape[2]))

    @property
    def plain(self) -> bool:
        """Causal softmax of dot products: nothing is added, hidden or computed otherwise."""
        return self.context.documents is None and not self.encoding.overrides(
            "table", "bias", "scores", "allowed", "sink", "values"
        )

    @property
    def toeplitz(self) -> bool:
        """All that is added to the logits is a function of the difference of indices."""
        return (
            self.context.contiguous
            and self.context.documents is None
            and not self.encoding.overrides("bias", "scores", "allowed", "values")
        )


def choose(view: View, q: Tensor) -> str:
    """The fastest legal kernel, by which hooks are overridden, device, dtype and length."""
    if view.plain:
        # Measured on CPU: SDPA loses to the chunked kernel in bf16 at every length, and wins in float32 from 1,024 on.
        slow = q.device.type == "cpu" and (q.dtype == torch.bfloat16 or q.shape[2] < 1024)
        return "chunked" if slow else "flash"
    return "flex" if flex.pays(q) and flex.legal(view) else "chunked"


def attend(q: Tensor, k: Tensor, v: Tensor, view: View, kernel: str = "auto") -> Tensor:
    if kernel == "auto":
        kernel = choose(view, q)
    assert kernel != "flash" or view.plain, "flash would silently drop this encoding's logits"
    assert kernel != "flex" or flex.legal(view), "flex would silently drop this encoding's logits"
    if k.shape[1] != q.shape[1]:  # grouped queries: every group of heads reads the same key head
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a map or a norm may have answered in float32
    return KERNELS[kernel](q, k, v, view)


def flash(q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
    if q.shape[2] == 1:
        return F.scaled_dot_product_attention(q, k, v, scale=view.scale)
    if q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=view.scale)
    from torch.nn.attention.bias import causal_lower_right  # with it comes the compiler: a second that few runs need

    # is_causal aligns to the upper left corner: with cached keys that hides all but the first few.
    mask = causal_lower_right(q.shape[2], k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=view.scale)


def dense(q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
    with torch.autocast(q.device.type, enabled=False):
        weights = _softmax(logits(q, k, view), view.encoding.sink())
        out = view.encoding.values(weights, v.float(), view.whole(q, k))
    return out.to(v.dtype)


def logits(q: Tensor, k: Tensor, view: View) -> Tensor:
    """All logits at once, float32 (B, H, Tq, T), -inf where a key is hidden. For `dense`, and for pictures."""
    block = view.whole(q, k)
    additive = _additive(view, block, view.encoding.bias(block))
    return view.encoding.scores(q.float(), k.float(), view.scale, block) + additive


def chunked(q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
    sink = view.encoding.sink()
    if not view.toeplitz:
        blocks = []
        for rows, columns, local in toeplitz.Blocks(q.shape[2], k.shape[2], view.encoding.reach(), CHUNK):
            block = view.block(rows, columns)
            scores = view.encoding.scores(q[:, :, local], k[:, :, columns], view.scale, block)
            weights = _softmax(scores + _additive(view, block, _bias(view, block, local)), sink).to(v.dtype)
            blocks.append(view.encoding.values(weights, v[:, :, columns], block))
        return torch.cat(blocks, dim=2)

    table = view.table if view.table is not None else torch.zeros(1, k.shape[2], device=q.device)
    return toeplitz.attention(q, k, v, table, sink, view.scale, view.encoding.reach(), CHUNK)


def _bias(view: View, block: Block, local: slice) -> Tensor | None:
    return view.encoding.bias(block) if view.bias is None else view.bias[:, :, local, block.columns]


def _additive(view: View, block: Block, bias: Tensor | None) -> Tensor:
    """Float32, broadcast over (B, H, tq, tk): bias where a key may be seen, -inf elsewhere. No views, no tricks."""
    visible = block.visible()[None, None]
    if view.context.documents is not None:
        documents = view.context.documents
        visible = visible & (documents[:, None, block.rows, None] == documents[:, None, None, block.columns])
    allowed = view.encoding.allowed(block.query_positions[:, :, None], block.key_positions[:, None, :])
    if allowed is not None:
        visible = visible & allowed[:, None]
    total = torch.zeros((), device=visible.device)
    if view.table is not None:
        total = total + block.spread(view.table)
    if bias is not None:
        total = total + bias
    return torch.where(visible, total, NEVER)


def _softmax(scores: Tensor, sink: Tensor | None) -> Tensor:
    """Float32 softmax over the last dimension, with a sink logit (H,) in the denominator if there is one."""
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    if sink is None:
        return weights
    lse = torch.logsumexp(scores.float(), dim=-1, keepdim=True)
    return weights * torch.sigmoid(lse - sink.float()[:, None, None])


KERNELS = {"dense": dense, "chunked": chunked, "flash": flash, "flex": flex.flex}
