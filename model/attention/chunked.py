"""Attention in blocks of queries against the keys they may see: dot products plus something, softmax, values.

What is added may be a function of i - j. With the keys in reverse order that is constant along anti-diagonals, and then
the block of biases of some queries against some keys is a strided view of the table: no T x T tensor, no gather, and
the causal mask is the -inf in front of distance 0. Softmax does not mind the order of the keys.

The backward is written out. It keeps the weights in the products' dtype (bf16 in training) or, from KEEP tokens on,
computes them again block by block, so that no T x T tensor exists in training either.

Shapes: B batch, H heads, T keys, Tq queries, d head dimension; a block has r rows and c columns.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pe.base import scaled_scores

CHUNK = 256  # queries a block; measured best from T=256 to 16k on AVX-512 in bf16
KEEP = 1024  # tokens up to which the backward reads stored weights instead of computing them again
CACHE = 2**22  # bytes of float32 logits at a time on a CPU: measured best from T=256 to 16k
NEVER = float("-inf")
Added = Tensor | Callable[[slice, slice], Tensor]
Part = tuple[slice, slice]  # sequences, and heads


@dataclass(frozen=True)
class Blocks:
    """How T keys and the last Tq queries are cut. reach: how many keys back a query sees at most."""

    queries: int
    keys: int
    reach: int | None
    chunk: int

    @property
    def kept(self) -> bool:
        """Whether the backward reads stored weights."""
        return self.keys <= KEEP

    def __iter__(self) -> Iterator[tuple[slice, slice, slice]]:
        """Rows and columns as indices of tokens, and the rows' place among the queries."""
        offset = self.keys - self.queries
        for start in range(0, self.queries, self.chunk):
            stop = min(start + self.chunk, self.queries)
            # Positions of distinct tokens differ by at least their indices: a reach in positions bounds indices too.
            first = 0 if self.reach is None else max(0, offset + start - self.reach + 1)
            yield slice(offset + start, offset + stop), slice(first, offset + stop), slice(start, stop)


def attention(
    q: Tensor, k: Tensor, v: Tensor, added: Added, sink: Tensor | None, scale: float, reach: int | None, chunk: int
) -> Tensor:
    """softmax(q k^T * scale + added) v.

    q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v), all of one dtype; the queries are the last Tq of T tokens.
    sink (H,): logit of a key without a value, or None.
    added, float32, is one of
        (H|1, n >= T)          the bias at distance 0, 1, ...; the future is hidden
        (B|1, H|1, Tq, T)      biases, and -inf where a key is hidden
        f(rows, columns)       the same of a range of tokens against another, without gradients
    """
    blocks = Blocks(q.shape[2], k.shape[2], reach, chunk)
    if callable(added):
        return forward(q, k, v, added, sink, scale, blocks, False)[0]
    if _over_distance(added):
        table = added.float()[:, : k.shape[2]]
        if q.shape[2] == 1:  # of one query it is cheaper to reverse the biases than the keys
            added = table.flip(1)[None, :, None]
        else:
            added = F.pad(table, (chunk, 0), value=NEVER)  # negative distances: the future
            k, v = k.flip(2), v.flip(2)
    if torch.compiler.is_compiling():
        from . import chunked_op  # it imports this file

        return chunked_op.attention(q, k, v, added, sink, scale, blocks)
    return _Attention.apply(q, k, v, added, sink, scale, blocks)


def hankel(source: Tensor, first: int, rows: int, columns: int) -> Tensor:
    """The view [h, r, c] = source[h, first + r + c] of source (H, n): (H, rows, columns), no copy."""
    return source.as_strided((source.shape[0], rows, columns), (source.stride(0), 1, 1), first)


def antidiagonal_sums(x: Tensor) -> Tensor:
    """What `hankel` does to a gradient: sums of x (H, r, c) over r + c, (H, r + c - 1)."""
    heads, rows, columns = x.shape
    # Pad each row so that, read as longer rows, the next one starts one place further left; then add the rows up.
    slanted = F.pad(x, (0, rows)).flatten(1)[:, :-rows].reshape(heads, rows, columns + rows - 1)
    return slanted.sum(1)


class _Attention(torch.autograd.Function):
    """Where `added` is a table, it stands behind `chunk` times -inf, and `k` and `v` are in reverse order."""

    @staticmethod
    def forward(ctx, q, k, v, added, sink, scale, blocks):
        out, *kept = forward(q, k, v, added, sink, scale, blocks, any(ctx.needs_input_grad))
        ctx.save_for_backward(q, k, v, added, sink, *kept)
        ctx.scale, ctx.blocks = scale, blocks
        return out

    @staticmethod
    def backward(ctx, d_out):
        q, k, v, added, sink, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3]
        return *backward(d_out, q, k, v, added, sink, kept, ctx.scale, ctx.blocks, wanted), None, None


def forward(
    q: Tensor, k: Tensor, v: Tensor, added: Added, sink: Tensor | None, scale: float, blocks: Blocks, gradients: bool
) -> list[Tensor]:
    """The output, and behind it the weights of each block if `gradients` are wanted and they are kept."""
    out = q.new_empty(*q.shape[:3], v.shape[3])
    room = _Room(q, blocks)
    kept = []
    for rows, columns, local in blocks:
        back, bias = _place(added, blocks, columns), _bias(added, blocks, rows, columns, local)
        weights = q.new_empty(*q.shape[:2], *bias.shape[2:]) if gradients and blocks.kept else None
        for part in _parts(q, bias):
            into = None if weights is None else weights[part]
            w = _weights(q[*part, local], k[*part, back], _of(bias, part), _sink(sink, part), scale, room, into)
            out[*part, local] = w @ v[*part, back]
        if weights is not None:
            kept.append(weights)
    return [out, *kept]


def backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, added: Tensor, sink: Tensor | None, kept: list[Tensor],
    scale: float, blocks: Blocks, wanted: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of q, k, v, of what is added if that is `wanted`, and of the sink if there is one."""
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    d_added = torch.zeros_like(added) if wanted else None
    d_sink = torch.zeros_like(sink) if sink is not None else None
    room = _Room(q, blocks)
    for number, (rows, columns, local) in enumerate(blocks):
        back, bias = _place(added, blocks, columns), _bias(added, blocks, rows, columns, local)
        d_bias = torch.zeros(bias.shape, device=q.device) if d_added is not None else None
        for part in _parts(q, bias):
            qp, kp, vp, dp = q[*part, local], k[*part, back], v[*part, back], d_out[*part, local]
            w = kept[number][part] if kept else _weights(qp, kp, _of(bias, part), _sink(sink, part), scale, room)
            dw = dp @ vp.transpose(2, 3)
            # w * (dw - sum(dw * w)), with a sink too
            ds = torch.ops.aten._softmax_backward_data(dw, w, -1, w.dtype)
            dq[*part, local] = scaled_scores(ds, kp.transpose(2, 3), scale)
            dk[*part, back] += scaled_scores(ds.transpose(2, 3), qp.transpose(2, 3), scale)
            dv[*part, back] += w.transpose(2, 3) @ dp
            if d_bias is not None:
                _accumulate(_of(d_bias, part), ds)
            if d_sink is not None:  # the sink's weight is what is missing to 1, its value 0
                missing = 1 - w.float().sum(-1)
                d_sink[part[1]] -= (missing * (dw.float() * w.float()).sum(-1)).sum((0, 2)).to(d_sink.dtype)
        if d_added is not None and d_bias is not None:
            _put(d_added, d_bias, blocks, rows, columns, local)
    return dq, dk, dv, d_added, d_sink


class _Room:
    """Where the logits of one part after the other are computed. They are the largest tensors by far, and fresh
    memory for each would cost more than the arithmetic: the system hands it out zeroed, page by page."""

    def __init__(self, q: Tensor, blocks: Blocks):
        areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns, _ in blocks]
        self.q, self.size = q, max(math.prod(_size(q, area)) * area for area in areas)
        self.flat: dict[torch.dtype, Tensor] = {}

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Of any content; the same memory each time."""
        if dtype not in self.flat:
            self.flat[dtype] = self.q.new_empty(self.size, dtype=dtype)
        return self.flat[dtype][: math.prod(shape)].view(shape)


def _weights(
    q: Tensor, k: Tensor, bias: Tensor, sink: Tensor | None, scale: float, room: _Room, into: Tensor | None = None
) -> Tensor:
    """Attention weights of a part of a block, computed in float32, in q's dtype; in `into`, or in the room."""
    shape = (*q.shape[:3], k.shape[2])
    scores, logits = (room.tensor(shape, dtype) for dtype in (q.dtype, torch.float32))  # one and the same in float32
    scaled_scores(q, k, scale, out=scores)
    if q.dtype != torch.float32:
        logits.copy_(scores)
    logits += bias
    passed = None if sink is None else torch.logsumexp(logits, -1, keepdim=True) - sink.float()[:, None, None]
    # In place on a CPU, where tests show that it may be; torch does not promise it.
    weights = torch.softmax(logits, -1, out=logits if q.device.type == "cpu" else None)
    if passed is not None:
        weights *= torch.sigmoid(passed)
    if into is None and q.dtype == torch.float32:
        return weights
    return (scores if into is None else into).copy_(weights)


def _over_distance(added: Added) -> bool:
    return isinstance(added, Tensor) and added.dim() == 2


def _place(added: Added, blocks: Blocks, columns: slice) -> slice:
    """Where these keys are: in reverse order for a table."""
    return slice(blocks.keys - columns.stop, blocks.keys - columns.start) if _over_distance(added) else columns


def _first(blocks: Blocks, rows: slice, columns: slice) -> int:
    """Where in the padded table the block's first element lies, the distance from its first row to its last column."""
    return blocks.chunk + rows.start - columns.stop + 1


def _bias(added: Added, blocks: Blocks, rows: slice, columns: slice, local: slice) -> Tensor:
    """What is added in a block, (B|1, H|1, r, c)."""
    if not isinstance(added, Tensor):
        return added(rows, columns)
    if not _over_distance(added):
        return added[:, :, local, columns]
    return hankel(added, _first(blocks, rows, columns), rows.stop - rows.start, columns.stop - columns.start)[None]


def _accumulate(total: Tensor, ds: Tensor) -> None:
    """Add the gradient of some logits (g, H, r, c) to that of what was added to them, float32 (g|1, H|1, r, c)."""
    if total.shape[1] < ds.shape[1]:
        ds = ds.sum(1, keepdim=True, dtype=torch.float32)
    if len(total) == len(ds):
        total += ds
    else:
        for one in ds:  # faster than their sum, where that is in another dtype
            total += one


def _put(d_added: Tensor, d_bias: Tensor, blocks: Blocks, rows: slice, columns: slice, local: slice) -> None:
    """What `_bias` does to a gradient."""
    if not _over_distance(d_added):
        d_added[:, :, local, columns] = d_bias
        return
    first, sums = _first(blocks, rows, columns), antidiagonal_sums(d_bias[0])
    d_added[:, first : first + sums.shape[1]] += sums


def _of(bias: Tensor, part: Part) -> Tensor:
    """What is added to the logits of some sequences and heads, where it is not the same for all."""
    return bias[part[0] if len(bias) > 1 else slice(None), part[1] if bias.shape[1] > 1 else slice(None)]


def _sink(sink: Tensor | None, part: Part) -> Tensor | None:
    return None if sink is None else sink[part[1]]


def _parts(q: Tensor, bias: Tensor) -> list[Part]:
    """Sequences and heads whose logits fit into the cache; on a GPU all of them."""
    ends = q.shape[:2]
    size = _size(q, bias.shape[2] * bias.shape[3])
    starts = itertools.product(*(range(0, end, step) for end, step in zip(ends, size, strict=True)))
    return [(slice(b, b + size[0]), slice(h, h + size[1])) for b, h in starts]


def _size(q: Tensor, area: int) -> tuple[int, int]:
    """How many sequences and how many heads, of `area` logits each."""
    batch, heads = q.shape[:2]
    if q.is_cuda:
        return batch, heads
    fitting = max(1, CACHE // (4 * area))
    return (min(batch, fitting // heads), heads) if fitting >= heads else (1, fitting)
