"""The attention kernels. All take what `View` describes and agree in values and gradients wherever each is legal.

`dense`    the oracle: one float32 matrix of logits, masks by explicit comparison. For tests.
`chunked`  blocks of queries against the keys they may see: memory O(T) for inference, nothing above the diagonal
           beyond a block, a backward of its own (blocked.py). The CPU's default and the home of every scheme that
           computes its logits or its output otherwise.
`flash`    torch's scaled_dot_product_attention, for schemes that leave the logits alone.
`flex`     compiled FlexAttention for biases, masks and regions on CUDA (flex.py).

Shapes: q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v) -> (B, H, Tq, d_v); the queries are the last Tq of T tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chunked as blocked
from . import flex
from .logits import View

CHUNK = blocked.CHUNK


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
        out = view.encoding.values(weights, v.float(), view.whole)
    return out.to(v.dtype)


def logits(q: Tensor, k: Tensor, view: View) -> Tensor:
    """All logits at once, float32 (B, H, Tq, T), -inf where a key is hidden. For `dense`, and for pictures."""
    return view.encoding.scores(q.float(), k.float(), view.scale, view.whole) + view.added(view.whole)


def chunked(q: Tensor, k: Tensor, v: Tensor, view: View) -> Tensor:
    encoding, added = view.encoding, _added(k, view)
    if added is not None:
        return blocked.attention(q, k, v, added, encoding.sink(), view.scale, encoding.window_size(), CHUNK)
    outputs = []
    for rows, columns, local in blocked.Blocks(q.shape[2], k.shape[2], encoding.window_size(), CHUNK):
        block = view.block(rows, columns)
        scores = encoding.scores(q[:, :, local], k[:, :, columns], view.scale, block) + view.added(block)
        outputs.append(encoding.values(_softmax(scores, encoding.sink()).to(v.dtype), v[:, :, columns], block))
    return torch.cat(outputs, dim=2)


def _added(k: Tensor, view: View) -> "blocked.Added | None":
    """What the blocked kernel is to add to dot products; None where it cannot do all that the encoding asks for."""
    if view.over_distance:
        table = view.prepared.table
        return torch.zeros(1, k.shape[2], device=k.device) if table is None else table
    if not view.adds or view.prepared.added is not None:
        return view.prepared.added
    alone = torch.is_grad_enabled() or torch.compiler.is_compiling()  # no gradients go through a function
    return None if alone else lambda rows, columns: view.added(view.block(rows, columns))


def _softmax(scores: Tensor, sink: Tensor | None) -> Tensor:
    """Float32 softmax over the last dimension, with a sink logit (H,) in the denominator if there is one."""
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
    if sink is None:
        return weights
    lse = torch.logsumexp(scores.float(), dim=-1, keepdim=True)
    return weights * torch.sigmoid(lse - sink.float()[:, None, None])


KERNELS = {"dense": dense, "chunked": chunked, "flash": flash, "flex": flex.flex}
