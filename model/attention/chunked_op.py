"""The kernel of blocked.py as one operation of a compiled graph.

Its loops over blocks would be unrolled, for every layer and twice: minutes of compiling, and nothing gained, for
nearly all of its time goes into matrix products. What lies around it is compiled. Not for eager mode: each call costs
a tenth of a millisecond more.

Queries, keys, values, what is added and the sink as in `blocked.forward`; `reach` and `chunk` are those of
its blocks.
"""

import torch
from torch import Tensor

from . import chunked
from .chunked import Blocks


def attention(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor, sink: Tensor | None, scale: float, blocks: Blocks
) -> Tensor:
    gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (q, k, v, added, sink))
    return _forward(q, k, v, added, sink, scale, blocks.reach, blocks.chunk, gradients)[0]


@torch.library.custom_op("longrun::blocked", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor, sink: Tensor | None,
    scale: float, reach: int | None, chunk: int, gradients: bool,
) -> list[Tensor]:  # fmt: skip
    return chunked.forward(q, k, v, added, sink, scale, _blocks(q, k, reach, chunk), gradients)


@_forward.register_fake
def _(q, k, v, added, sink, scale, reach, chunk, gradients):
    """Shapes alone: the output, and the weights of each block."""
    blocks = _blocks(q, k, reach, chunk)
    sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns, _ in blocks]
    kept = [q.new_empty(*q.shape[:2], *size) for size in sizes] if gradients and blocks.kept else []
    return [q.new_empty(*q.shape[:3], v.shape[3]), *kept]


@torch.library.custom_op("longrun::blocked_backward", mutates_args=())
def _backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, added: Tensor, sink: Tensor | None, kept: list[Tensor],
    scale: float, reach: int | None, chunk: int, wanted: bool,
) -> list[Tensor]:  # fmt: skip
    """What `blocked.backward` answers, without what is None: an operation cannot answer that."""
    found = chunked.backward(d_out, q, k, v, added, sink, kept, scale, _blocks(q, k, reach, chunk), wanted)
    return [gradient for gradient in found if gradient is not None]


@_backward.register_fake
def _(d_out, q, k, v, added, sink, kept, scale, reach, chunk, wanted):
    asked = [q, k, v, added if wanted else None, sink]
    return [torch.empty_like(x) for x in asked if x is not None]


def _blocks(q: Tensor, k: Tensor, reach: int | None, chunk: int) -> Blocks:
    return Blocks(q.shape[2], k.shape[2], reach, chunk)


def _save(ctx, inputs, output):
    *tensors, ctx.scale, ctx.reach, ctx.chunk, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])


def _gradients(ctx, gradients):
    q, k, v, added, sink, *kept = ctx.saved_tensors
    wanted = ctx.needs_input_grad[3]
    found = iter(_backward(gradients[0], q, k, v, added, sink, kept, ctx.scale, ctx.reach, ctx.chunk, wanted))
    dq, dk, dv = next(found), next(found), next(found)
    return dq, dk, dv, next(found) if wanted else None, next(found, None), None, None, None, None


_forward.register_autograd(_gradients, setup_context=_save)
