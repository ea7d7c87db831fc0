"""The chunked kernel: attention in tiles, each a chunk of queries against the keys that these can see.

A bias that is a function of i - j is constant along diagonals. With the keys in reverse order it is constant along
anti-diagonals, so the biases of a tile are a strided view of the table: no T x T tensor, no gather, and the causal mask
is the -inf in front of distance 0. Softmax does not depend on the order of the keys.

The backward pass is written out. Up to SAVE_WEIGHTS_UP_TO tokens it reads the attention weights that the forward pass
saved in the products' dtype (bf16 in training); beyond, it computes them again tile by tile, so that no T x T tensor
exists in training either.

Shapes: B batch, H heads, T keys, Tq queries (the last of the T tokens), d head dimension; a tile has r rows (queries)
and c columns (keys). Inside a tile, work proceeds by groups of sequences and heads whose logits fit into the cache.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pe.base import scaled_scores

CHUNK = 256  # queries per tile; measured best from T=256 to 16k on AVX-512 in bf16
SAVE_WEIGHTS_UP_TO = 1024  # tokens up to which the backward pass reads saved weights instead of computing them again
GROUP_BYTES = 2**22  # float32 logits of a group on a CPU: measured best from T=256 to 16k
NEVER = float("-inf")
Bias = Tensor | Callable[[slice, slice], Tensor]
Group = tuple[slice, slice]  # sequences and heads


@dataclass(frozen=True)
class Tiles:
    """The tiles of T keys and the last Tq queries. window: number of keys back that a query sees at most."""

    queries: int
    keys: int
    window: int | None
    chunk: int

    @property
    def save_weights(self) -> bool:
        return self.keys <= SAVE_WEIGHTS_UP_TO

    def __iter__(self) -> Iterator[tuple[slice, slice, slice]]:
        """Rows and columns as token indices, and the rows as indices of queries."""
        offset = self.keys - self.queries
        for start in range(0, self.queries, self.chunk):
            stop = min(start + self.chunk, self.queries)
            # Positions of distinct tokens differ by at least their indices: a window in positions bounds indices too.
            first = 0 if self.window is None else max(0, offset + start - self.window + 1)
            yield slice(offset + start, offset + stop), slice(first, offset + stop), slice(start, stop)


def attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Bias, sink: Tensor | None, scale: float, window: int | None, chunk: int
) -> Tensor:
    """softmax(q k^T * scale + bias) v, (B, H, Tq, d_v).

    q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v), all of one dtype; the queries are the last Tq of T tokens.
    sink (H,): logit of a key without a value, or None.
    bias, float32, is one of
        (H|1, n >= T)          the bias at distance 0, 1, ...; the future is hidden
        (B|1, H|1, Tq, T)      the bias of each pair, -inf where a key is hidden
        f(rows, columns)       the same for a range of queries and a range of keys, without gradients
    """
    tiles = Tiles(q.shape[2], k.shape[2], window, chunk)
    if callable(bias):
        return forward(q, k, v, bias, sink, scale, tiles, False)[0]
    if _is_table(bias):
        table = bias.float()[:, : k.shape[2]]
        if q.shape[2] == 1:  # for one query it is cheaper to reverse the table than the keys
            bias = table.flip(1)[None, :, None]
        else:
            bias = F.pad(table, (chunk, 0), value=NEVER)  # negative distances: the future
            k, v = k.flip(2), v.flip(2)
    if torch.compiler.is_compiling():
        tensors = (q, k, v, bias, sink)
        gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
        return _operation(q, k, v, bias, sink, scale, window, chunk, gradients)[0]
    return _Attention.apply(q, k, v, bias, sink, scale, tiles)


def hankel(source: Tensor, first: int, rows: int, columns: int) -> Tensor:
    """The view [h, r, c] = source[h, first + r + c] of source (H, n): (H, rows, columns), no copy."""
    return source.as_strided((source.shape[0], rows, columns), (source.stride(0), 1, 1), first)


def antidiagonal_sums(x: Tensor) -> Tensor:
    """The adjoint of `hankel`: sums of x (H, r, c) over r + c, (H, r + c - 1)."""
    heads, rows, columns = x.shape
    # Pad each row so that, read as longer rows, the next one starts one entry further left; then add the rows up.
    slanted = F.pad(x, (0, rows)).flatten(1)[:, :-rows].reshape(heads, rows, columns + rows - 1)
    return slanted.sum(1)


class _Attention(torch.autograd.Function):
    """In eager mode. A table has `chunk` times -inf in front of it, and `k` and `v` are then in reverse order."""

    @staticmethod
    def forward(ctx, q, k, v, bias, sink, scale, tiles):
        out, *saved = forward(q, k, v, bias, sink, scale, tiles, any(ctx.needs_input_grad))
        ctx.save_for_backward(q, k, v, bias, sink, *saved)
        ctx.scale, ctx.tiles = scale, tiles
        return out

    @staticmethod
    def backward(ctx, d_out):
        q, k, v, bias, sink, *saved = ctx.saved_tensors
        needs_bias_grad = ctx.needs_input_grad[3]
        return *backward(d_out, q, k, v, bias, sink, saved, ctx.scale, ctx.tiles, needs_bias_grad), None, None


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Bias, sink: Tensor | None, scale: float, tiles: Tiles, gradients: bool
) -> list[Tensor]:
    """The output, followed by the weights of each tile if `gradients` will be taken and weights are saved."""
    out = q.new_empty(*q.shape[:3], v.shape[3])
    workspace = _Workspace(q, tiles)
    saved = []
    for rows, columns, query_slice in tiles:
        key_slice, tile_bias = _key_slice(bias, tiles, columns), _tile_bias(bias, tiles, rows, columns, query_slice)
        weights = q.new_empty(*q.shape[:2], *tile_bias.shape[2:]) if gradients and tiles.save_weights else None
        for group in _groups(q, tile_bias):
            qg, kg, vg = q[*group, query_slice], k[*group, key_slice], v[*group, key_slice]
            target = None if weights is None else weights[group]
            bg, sg = _of_group(tile_bias, group), _sink_of(sink, group)
            out[*group, query_slice] = _weights(qg, kg, bg, sg, scale, workspace, target) @ vg
        if weights is not None:
            saved.append(weights)
    return [out, *saved]


def backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, sink: Tensor | None, saved: list[Tensor],
    scale: float, tiles: Tiles, needs_bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of q, k, v, of the bias if it needs one, and of the sink if there is one."""
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    d_bias = torch.zeros_like(bias) if needs_bias_grad else None
    d_sink = torch.zeros_like(sink) if sink is not None else None
    workspace = _Workspace(q, tiles)
    for number, (rows, columns, query_slice) in enumerate(tiles):
        key_slice, tile_bias = _key_slice(bias, tiles, columns), _tile_bias(bias, tiles, rows, columns, query_slice)
        d_tile_bias = torch.zeros(tile_bias.shape, device=q.device) if d_bias is not None else None
        for group in _groups(q, tile_bias):
            qg, kg, vg = q[*group, query_slice], k[*group, key_slice], v[*group, key_slice]
            dg, bg, sg = d_out[*group, query_slice], _of_group(tile_bias, group), _sink_of(sink, group)
            w = saved[number][group] if saved else _weights(qg, kg, bg, sg, scale, workspace)
            dw = dg @ vg.transpose(2, 3)
            # w * (dw - sum(dw * w)), with a sink too
            ds = torch.ops.aten._softmax_backward_data(dw, w, -1, w.dtype)
            dq[*group, query_slice] = scaled_scores(ds, kg.transpose(2, 3), scale)
            dk[*group, key_slice] += scaled_scores(ds.transpose(2, 3), qg.transpose(2, 3), scale)
            dv[*group, key_slice] += w.transpose(2, 3) @ dg
            if d_tile_bias is not None:
                _accumulate(_of_group(d_tile_bias, group), ds)
            if d_sink is not None:  # the sink's weight is the rest to 1, its value 0
                rest = 1 - w.float().sum(-1)
                d_sink[group[1]] -= (rest * (dw.float() * w.float()).sum(-1)).sum((0, 2)).to(d_sink.dtype)
        if d_bias is not None and d_tile_bias is not None:
            _store_bias_grad(d_bias, d_tile_bias, tiles, rows, columns, query_slice)
    return dq, dk, dv, d_bias, d_sink


class _Workspace:
    """Scratch memory that the logits of every group share. Allocating them anew is slower than computing them, because
    the operating system zeroes each page."""

    def __init__(self, q: Tensor, tiles: Tiles):
        areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns, _ in tiles]
        self.q, self.size = q, max(math.prod(_group_size(q, area)) * area for area in areas)
        self.buffers: dict[torch.dtype, Tensor] = {}

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor; the same memory for every call with this dtype."""
        if dtype not in self.buffers:
            self.buffers[dtype] = self.q.new_empty(self.size, dtype=dtype)
        return self.buffers[dtype][: math.prod(shape)].view(shape)


def _weights(
    q: Tensor, k: Tensor, bias: Tensor, sink: Tensor | None, scale: float, workspace: _Workspace,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Attention weights of a group in a tile, computed in float32, in q's dtype; in `out` or in the workspace."""
    shape = (*q.shape[:3], k.shape[2])
    scores, logits = (workspace.tensor(shape, dtype) for dtype in (q.dtype, torch.float32))  # the same one in float32
    scaled_scores(q, k, scale, out=scores)
    if q.dtype != torch.float32:
        logits.copy_(scores)
    logits += bias
    sink_gate = None if sink is None else torch.logsumexp(logits, -1, keepdim=True) - sink.float()[:, None, None]
    # torch does not promise that softmax works in place; the tests show that it does on a CPU.
    weights = torch.softmax(logits, -1, out=logits if q.device.type == "cpu" else None)
    if sink_gate is not None:
        weights *= torch.sigmoid(sink_gate)
    if out is None and q.dtype == torch.float32:
        return weights
    return (scores if out is None else out).copy_(weights)


def _is_table(bias: Bias) -> bool:
    return isinstance(bias, Tensor) and bias.dim() == 2


def _key_slice(bias: Bias, tiles: Tiles, columns: slice) -> slice:
    """The columns in the order of the keys, which is reversed for a table."""
    return slice(tiles.keys - columns.stop, tiles.keys - columns.start) if _is_table(bias) else columns


def _table_offset(tiles: Tiles, rows: slice, columns: slice) -> int:
    """Index in the padded table of a tile's first element, the distance from its first row to its last column."""
    return tiles.chunk + rows.start - columns.stop + 1


def _tile_bias(bias: Bias, tiles: Tiles, rows: slice, columns: slice, query_slice: slice) -> Tensor:
    """The bias of one tile, (B|1, H|1, r, c)."""
    if not isinstance(bias, Tensor):
        return bias(rows, columns)
    if not _is_table(bias):
        return bias[:, :, query_slice, columns]
    return hankel(bias, _table_offset(tiles, rows, columns), rows.stop - rows.start, columns.stop - columns.start)[None]


def _store_bias_grad(
    d_bias: Tensor, d_tile_bias: Tensor, tiles: Tiles, rows: slice, columns: slice, query_slice: slice
) -> None:
    """The adjoint of `_tile_bias`: enters the gradient of a tile's bias into that of the bias."""
    if not _is_table(d_bias):
        d_bias[:, :, query_slice, columns] = d_tile_bias
        return
    first, sums = _table_offset(tiles, rows, columns), antidiagonal_sums(d_tile_bias[0])
    d_bias[:, first : first + sums.shape[1]] += sums


def _accumulate(total: Tensor, ds: Tensor) -> None:
    """Add the gradient of a group's logits (g, H, r, c) to that of its bias, float32 (g|1, H|1, r, c)."""
    if total.shape[1] < ds.shape[1]:
        ds = ds.sum(1, keepdim=True, dtype=torch.float32)
    if len(total) == len(ds):
        total += ds
    else:
        for one in ds:  # faster than a sum over the sequences in another dtype
            total += one


def _of_group(bias: Tensor, group: Group) -> Tensor:
    """The part of a tile's bias for a group; dimensions of size 1 serve all groups."""
    return bias[group[0] if len(bias) > 1 else slice(None), group[1] if bias.shape[1] > 1 else slice(None)]


def _sink_of(sink: Tensor | None, group: Group) -> Tensor | None:
    return None if sink is None else sink[group[1]]


def _groups(q: Tensor, bias: Tensor) -> list[Group]:
    """Groups of sequences and heads whose logits fit into GROUP_BYTES; a single one on a GPU."""
    ends = q.shape[:2]
    size = _group_size(q, bias.shape[2] * bias.shape[3])
    starts = itertools.product(*(range(0, end, step) for end, step in zip(ends, size, strict=True)))
    return [(slice(b, b + size[0]), slice(h, h + size[1])) for b, h in starts]


def _group_size(q: Tensor, area: int) -> tuple[int, int]:
    """Number of sequences and of heads in a group, with `area` logits per head."""
    batch, heads = q.shape[:2]
    if q.is_cuda:
        return batch, heads
    fitting = max(1, GROUP_BYTES // (4 * area))
    return (min(batch, fitting // heads), heads) if fitting >= heads else (1, fitting)


# The kernel as one operation of a compiled graph. Unrolling the loops over tiles, for every layer and twice, would take
# minutes of compiling and gain nothing: nearly all time goes into matrix products. Eager mode does without, since each
# call of an operation costs a tenth of a millisecond more. An exported model has a copy of this file, hence the name.
_NAME = re.sub(r"\W", "_", __name__) + "::chunked_attention"


@torch.library.custom_op(_NAME, mutates_args=())
def _operation(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, sink: Tensor | None,
    scale: float, window: int | None, chunk: int, gradients: bool,
) -> list[Tensor]:  # fmt: skip
    return forward(q, k, v, bias, sink, scale, Tiles(q.shape[2], k.shape[2], window, chunk), gradients)


@_operation.register_fake
def _(q, k, v, bias, sink, scale, window, chunk, gradients):
    tiles = Tiles(q.shape[2], k.shape[2], window, chunk)
    sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns, _ in tiles]
    saved = [q.new_empty(*q.shape[:2], *size) for size in sizes] if gradients and tiles.save_weights else []
    return [q.new_empty(*q.shape[:3], v.shape[3]), *saved]


@torch.library.custom_op(f"{_NAME}_backward", mutates_args=())
def _backward_operation(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, sink: Tensor | None, saved: list[Tensor],
    scale: float, window: int | None, chunk: int, needs_bias_grad: bool,
) -> list[Tensor]:  # fmt: skip
    """`backward` without the gradients that are None, which an operation cannot return."""
    tiles = Tiles(q.shape[2], k.shape[2], window, chunk)
    gradients = backward(d_out, q, k, v, bias, sink, saved, scale, tiles, needs_bias_grad)
    return [gradient for gradient in gradients if gradient is not None]


@_backward_operation.register_fake
def _(d_out, q, k, v, bias, sink, saved, scale, window, chunk, needs_bias_grad):
    return [torch.empty_like(x) for x in (q, k, v, bias if needs_bias_grad else None, sink) if x is not None]


def _save(ctx, inputs, output):
    *tensors, ctx.scale, ctx.window, ctx.chunk, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])


def _gradients(ctx, gradients):
    q, k, v, bias, sink, *saved = ctx.saved_tensors
    needs_bias_grad = ctx.needs_input_grad[3]
    sizes = ctx.scale, ctx.window, ctx.chunk
    results = iter(_backward_operation(gradients[0], q, k, v, bias, sink, saved, *sizes, needs_bias_grad))
    dq, dk, dv = next(results), next(results), next(results)
    return dq, dk, dv, next(results) if needs_bias_grad else None, next(results, None), None, None, None, None


_operation.register_autograd(_gradients, setup_context=_save)
