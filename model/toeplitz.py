"""Causal attention whose biases depend on the difference of indices: blocks of queries, biases without a copy.

With the keys in reverse order a function of i - j is constant along anti-diagonals, and then the block of biases of
some queries against some keys is a strided view of the table: no T x T tensor, no gather, and the causal mask is the
-inf in front of distance 0. Softmax does not mind the order of the keys.

The backward is written out. It keeps the weights in the products' dtype (bf16 in training) or, from KEEP tokens on,
computes them again block by block, so that no T x T tensor exists in training either.

Shapes: B batch, H heads, T keys, Tq queries, d head dimension; a block has r rows and c columns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .pe.base import scaled_scores

CHUNK = 256  # queries a block; measured best from T=256 to 16k on AVX-512 in bf16
KEEP = 1024  # tokens up to which the backward reads stored weights instead of computing them again
CACHE = 2**21  # bytes of float32 logits at a time on a CPU: about what a core's caches hold
NEVER = float("-inf")


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
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, sink: Tensor | None, scale: float, reach: int | None, chunk: int
) -> Tensor:
    """softmax(q k^T * scale + table[i - j]) v over j <= i.

    q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v), all of one dtype; the queries are the last Tq of T tokens.
    table (H|1, n >= T) float32: the bias at distance 0, 1, ...  sink (H,): logit of a key without a value, or None.
    """
    padded = F.pad(table.float()[:, : k.shape[2]], (chunk, 0), value=NEVER)  # negative distances: the future
    reverse, blocks = (k.flip(2), v.flip(2)), Blocks(q.shape[2], k.shape[2], reach, chunk)
    if torch.compiler.is_compiling():
        from . import toeplitz_op  # it imports this file

        return toeplitz_op.attention(q, *reverse, padded, sink, scale, blocks)
    return _Attention.apply(q, *reverse, padded, sink, scale, blocks)


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
    """`k` and `v` in reverse order, `padded` the table behind `chunk` times -inf."""

    @staticmethod
    def forward(ctx, q, k, v, padded, sink, scale, blocks):
        out, *kept = forward(q, k, v, padded, sink, scale, blocks, any(ctx.needs_input_grad))
        ctx.save_for_backward(q, k, v, padded, sink, *kept)
        ctx.scale, ctx.blocks = scale, blocks
        return out

    @staticmethod
    def backward(ctx, d_out):
        q, k, v, padded, sink, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3]
        dq, dk, dv, d_padded, d_sink = backward(d_out, q, k, v, padded, sink, kept, ctx.scale, ctx.blocks, wanted)
        return dq, dk, dv, d_padded, d_sink, None, None


def forward(
    q: Tensor, k: Tensor, v: Tensor, padded: Tensor, sink: Tensor | None, scale: float, blocks: Blocks, gradients: bool
) -> list[Tensor]:
    """The output, and behind it the weights of each block if `gradients` are wanted and they are kept."""
    out = q.new_empty(*q.shape[:3], v.shape[3])
    room = _Room(q, blocks)
    kept = []
    for rows, columns, local in blocks:
        back, bias = _reversed(blocks, columns), _bias(padded, blocks, rows, columns)
        weights = q.new_empty(*q.shape[:2], *bias.shape[1:]) if gradients and blocks.kept else None
        for group in _groups(q, bias):
            into = None if weights is None else weights[group]
            w = _weights(q[group, :, local], k[group, :, back], bias, sink, scale, room, into)
            out[group, :, local] = w @ v[group, :, back]
        if weights is not None:
            kept.append(weights)
    return [out, *kept]


def backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, padded: Tensor, sink: Tensor | None, kept: list[Tensor],
    scale: float, blocks: Blocks, table: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of q, k, v, of the padded table if that is wanted (`table`), and of the sink if there is one."""
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    d_padded = torch.zeros_like(padded) if table else None
    d_sink = torch.zeros_like(sink) if sink is not None else None
    room = _Room(q, blocks)
    for number, (rows, columns, local) in enumerate(blocks):
        back, bias = _reversed(blocks, columns), _bias(padded, blocks, rows, columns)
        d_bias = torch.zeros(bias.shape, device=q.device) if d_padded is not None else None
        for group in _groups(q, bias):
            qg, kg, vg, dg = q[group, :, local], k[group, :, back], v[group, :, back], d_out[group, :, local]
            w = kept[number][group] if kept else _weights(qg, kg, bias, sink, scale, room)
            dw = dg @ vg.transpose(2, 3)
            # w * (dw - sum(dw * w)), with a sink too
            ds = torch.ops.aten._softmax_backward_data(dw, w, -1, w.dtype)
            dq[group, :, local] = scaled_scores(ds, kg.transpose(2, 3), scale)
            dk[group, :, back] += scaled_scores(ds.transpose(2, 3), qg.transpose(2, 3), scale)
            dv[group, :, back] += w.transpose(2, 3) @ dg
            if d_bias is not None:
                d_bias += ds.sum(0, dtype=torch.float32).sum_to_size(bias.shape)
            if d_sink is not None:  # the sink's weight is what is missing to 1, its value 0
                missing = 1 - w.float().sum(-1)
                d_sink -= (missing * (dw.float() * w.float()).sum(-1)).sum((0, 2)).to(d_sink.dtype)
        if d_bias is not None and d_padded is not None:
            first = _first(blocks, rows, columns)
            sums = antidiagonal_sums(d_bias)
            d_padded[:, first : first + sums.shape[1]] += sums
    return dq, dk, dv, d_padded, d_sink


class _Room:
    """Where the logits of one group after the other are computed. They are the largest tensors by far, and fresh
    memory for each would cost more than the arithmetic: the system hands it out zeroed, page by page."""

    def __init__(self, q: Tensor, blocks: Blocks):
        self.q, self.size = q, 0
        for rows, columns, _ in blocks:
            each = q.shape[1] * (rows.stop - rows.start) * (columns.stop - columns.start)
            self.size = max(self.size, each * _group(q, each))
        self.flat: dict[torch.dtype, Tensor] = {}

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Of any content; the same memory each time."""
        if dtype not in self.flat:
            self.flat[dtype] = self.q.new_empty(self.size, dtype=dtype)
        return self.flat[dtype][: math.prod(shape)].view(shape)


def _weights(
    q: Tensor, k: Tensor, bias: Tensor, sink: Tensor | None, scale: float, room: _Room, into: Tensor | None = None
) -> Tensor:
    """Attention weights of a group of a block, computed in float32, in q's dtype; in `into`, or in the room."""
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


def _reversed(blocks: Blocks, columns: slice) -> slice:
    """Where these keys are in the reverse order."""
    return slice(blocks.keys - columns.stop, blocks.keys - columns.start)


def _first(blocks: Blocks, rows: slice, columns: slice) -> int:
    """Where in the padded table the block's first element lies, the distance from its first row to its last column."""
    return blocks.chunk + rows.start - columns.stop + 1


def _bias(padded: Tensor, blocks: Blocks, rows: slice, columns: slice) -> Tensor:
    first = _first(blocks, rows, columns)
    return hankel(padded, first, rows.stop - rows.start, columns.stop - columns.start)


def _groups(q: Tensor, bias: Tensor) -> list[slice]:
    """Parts of the batch whose logits fit into the cache; on a GPU all of it."""
    size = _group(q, q.shape[1] * bias.shape[1] * bias.shape[2])
    return [slice(start, start + size) for start in range(0, len(q), size)]


def _group(q: Tensor, each: int) -> int:
    """How many sequences, of `each` logits."""
    return len(q) if q.is_cuda else min(len(q), max(1, CACHE // (4 * each)))
