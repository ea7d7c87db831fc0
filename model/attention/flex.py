"""Compiled FlexAttention (2412.05496) for CUDA: biases over distance, masks, packed documents, sinks and regions.

No T x T tensor exists: the compiled kernel gathers the bias of a pair from the table, and blocks of 128 x 128 pairs
that are hidden as a whole (the future, what lies outside a window, other documents) are skipped. On a CPU the same code
runs uncompiled and without a backward, which is how its values are tested.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..pe.base import Context, PositionEncoding
from ..shape import Shape

if TYPE_CHECKING:
    from .logits import View

SHORTEST, NARROWEST = 128, 16  # queries that fill a block; head dimension that a tensor core takes
AGREES = 0.01  # relative difference that tf32 may make


def legal(view: "View") -> bool:
    """Whether all of the encoding can be said with a table, masks, regions and a sink."""
    encoding = view.encoding
    dots = not encoding.overrides("scores") or encoding.overrides("regions")
    return dots and not encoding.overrides("bias", "values") and view.context.positions.dim() == 2


def pays(q: Tensor) -> bool:
    """Whether these queries are for the compiled kernel; a token at a time is not."""
    return q.is_cuda and q.shape[2] >= SHORTEST and q.shape[3] >= NARROWEST and _answer(q.device)


@torch.compiler.assume_constant_result
def _answer(device: torch.device) -> bool:
    """For a compiled graph: it takes the answer as given, and does not trace the check. Have it asked before."""
    return trusted(device)


@cache
def trusted(device: torch.device) -> bool:
    """Whether the compiler can make the kernel on this machine, and the kernel agrees with plain arithmetic.

    Asked once a process, because a wrong kernel would train as well as a right one. If not, a warning says why.
    """
    try:
        apart = _self_check(device)
        reason = "" if apart < AGREES else f"values or gradients differ by {apart:.1e}"
    except Exception as error:  # whatever a compiler may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    if reason:
        warnings.warn(f"FlexAttention is not used on {device}: {reason}", stacklevel=2)
    return not reason


def _self_check(device: torch.device) -> float:
    """Largest difference from the dense kernel: of the output, and of every gradient, the table's included."""
    from .dispatch import dense  # they import this file
    from .logits import Prepared, View

    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, SHORTEST, NARROWEST, generator=draw).to(device).requires_grad_() for _ in range(3))
    table = torch.randn(2, SHORTEST, generator=draw).to(device).requires_grad_()
    shape = Shape(2 * NARROWEST, heads=2, kv_heads=2, head_dim=NARROWEST, layers=1, train_length=SHORTEST)
    index = torch.arange(SHORTEST, device=device)[None]
    context = Context(index, SHORTEST, SHORTEST, SHORTEST, contiguous=True)
    view = View(PositionEncoding(shape), context, Prepared(table=table), {}, NARROWEST**-0.5)

    inputs, weights = (q, k, v, table), torch.randn(v.shape, generator=draw).to(device)
    # In evaluation no gradients are recorded, and under autocast products would be rounded.
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        results = [kernel(q, k, v, view) for kernel in (flex, dense)]
        gradients = [torch.autograd.grad((result * weights).sum(), inputs) for result in results]
    pairs = [results, *zip(*gradients, strict=True)]
    return max((a - b).abs().max().item() / b.abs().max().item() for a, b in pairs)


def flex(q: Tensor, k: Tensor, v: Tensor, view: "View") -> Tensor:
    """Softmax over the regions of the keys, each by itself, merged by their log-sum-exp; a sink is one more."""
    parts = view.encoding.regions(q, k) or [(q, k)]
    numbers = range(len(parts)) if len(parts) > 1 else [None]
    done = [_region(*part, v, view, number) for part, number in zip(parts, numbers, strict=True)]
    outputs, sizes = zip(*done, strict=True)  # (B, H, Tq, d_v), and the log of the denominators (B, H, Tq)
    sink = view.encoding.sink()
    if len(done) == 1 and sink is None:
        return outputs[0]
    others = [] if sink is None else [sink.float()[:, None].expand_as(sizes[0])]
    total = torch.logsumexp(torch.stack([*sizes, *others]), 0)
    merged = sum((size - total).exp()[..., None] * output.float() for output, size in done)
    return torch.as_tensor(merged).to(v.dtype)


def _region(q: Tensor, k: Tensor, v: Tensor, view: "View", number: int | None) -> tuple[Tensor, Tensor]:
    """The keys of one region, or all of them: output, and log-sum-exp (-inf where a query has no such key)."""
    hidden = mask(q, k, view, number)
    bias = None if view.prepared.table is None else biased(view, k.shape[2] - q.shape[2])
    from torch.nn.attention.flex_attention import AuxRequest

    asked = AuxRequest(lse=True)
    output, more = _kernel(q.is_cuda)(q, k, v, bias, hidden, scale=view.scale, return_aux=asked)
    return output, more.lse


def biased(view: "View", offset: int) -> Callable[..., Tensor]:
    """score_mod: the table's entry of a pair is added to its logit."""
    table, positions = view.prepared.table, view.context.positions
    assert table is not None
    last, heads, rows = table.shape[1] - 1, table.shape[0] > 1, positions.shape[0] > 1
    contiguous = view.context.contiguous

    def add(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = b if rows else 0
        distance = i + offset - j if contiguous else positions[row, i + offset] - positions[row, j]
        return score + table[h if heads else 0, distance.clamp(0, last)]

    return add


def mask(q: Tensor, k: Tensor, view: "View", number: int | None) -> Any:
    """The blocks of a region that hold something to see. Made once a forward pass: layers share view.prepared.memo."""
    key = ("mask", number)
    if key not in view.prepared.memo:
        batch = max(len(view.context.positions), 1 if view.context.documents is None else len(view.context.documents))
        view.prepared.memo[key] = _blocks(q.is_cuda)(
            seen(view, k.shape[2] - q.shape[2], number),
            batch if batch > 1 else None,
            None,
            q.shape[2],
            k.shape[2],
            device=q.device.type,
        )
    return view.prepared.memo[key]


def seen(view: "View", offset: int, number: int | None) -> Callable[..., Tensor]:
    """mask_mod: what `View.added` leaves visible, and of that one region."""
    positions, documents, encoding = view.context.positions, view.context.documents, view.encoding
    reach, rows = encoding.window_size(), positions.shape[0] > 1

    def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = b if rows else 0
        at, key = positions[row, i + offset], positions[row, j]
        answer = j <= i + offset
        if reach is not None:
            answer = answer & (i + offset - j < reach)
        if documents is not None:
            answer = answer & (documents[b, i + offset] == documents[b, j])
        allowed = encoding.allowed(at, key)
        if allowed is not None:
            answer = answer & allowed
        if number is not None:
            answer = answer & (encoding.region(at, key) == number)
        return answer

    return visible


@cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    """Imported where it is used: the compiler takes a second to import, and few runs need it."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention


@cache
def _blocks(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask, dynamic=False) if compiled else create_block_mask
