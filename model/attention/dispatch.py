"""The choice of an attention kernel. All kernels agree in values and gradients wherever they apply.

`dense`    the reference (dense.py), for tests
`chunked`  tiles of queries against their visible keys, with a backward pass of its own (chunked.py): memory O(T) in
           inference. The default on CPUs, and the only fast kernel for encodings that override `scores` or `values`
`flash`    torch's scaled_dot_product_attention, for encodings that leave the logits alone
`flex`     compiled FlexAttention for biases, masks and regions on CUDA (flex.py)

Shapes: q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v) -> (B, H, Tq, d_v); the queries are the last Tq of T tokens.
"""

import warnings
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pe.base import Context, PositionEncoding
from ..shape import Shape
from . import chunked
from .dense import dense_attention, softmax_with_sink
from .flex import flex_attention
from .logits import LogitsSpec, SharedAcrossLayers

CHUNK = chunked.CHUNK
FLEX_MIN_QUERIES, FLEX_MIN_HEAD_DIM = 128, 16  # queries that fill a block; head dimension that a tensor core takes
FLEX_TOLERANCE = 0.01  # largest relative difference from `dense`, which tf32 products explain


def choose(spec: LogitsSpec, q: Tensor) -> str:
    """The fastest kernel that applies, chosen by overridden hooks, device, dtype and length."""
    if spec.is_causal_only:
        # Measured on CPU: SDPA loses to the chunked kernel in bf16 at every length, and wins in float32 from 1,024 on.
        slow = q.device.type == "cpu" and (q.dtype == torch.bfloat16 or q.shape[2] < 1024)
        return "chunked" if slow else "flash"
    return "flex" if flex_is_worthwhile(q) and spec.supports_flex else "chunked"


def attend(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec, kernel: str = "auto") -> Tensor:
    """The output of attention; k and v may have fewer heads than q (grouped-query attention)."""
    if kernel == "auto":
        kernel = choose(spec, q)
    assert kernel != "flash" or spec.is_causal_only, "flash would silently drop this encoding's logits"
    assert kernel != "flex" or spec.supports_flex, "flex would silently drop this encoding's logits"
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a map or a norm may return float32
    return KERNELS[kernel](q, k, v, spec)


def flash_attention(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec) -> Tensor:
    if q.shape[2] == 1:
        return F.scaled_dot_product_attention(q, k, v, scale=spec.scale)
    if q.shape[2] == k.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=spec.scale)
    from torch.nn.attention.bias import causal_lower_right  # it imports the compiler, which takes a second

    # is_causal aligns to the upper left corner: with cached keys that hides all but the first few.
    mask = causal_lower_right(q.shape[2], k.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=spec.scale)


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec) -> Tensor:
    encoding, bias = spec.encoding, _bias(k, spec)
    if bias is not None:
        return chunked.attention(q, k, v, bias, encoding.sink(), spec.scale, encoding.window_size(), CHUNK)
    outputs = []
    for rows, columns, query_slice in chunked.Tiles(q.shape[2], k.shape[2], encoding.window_size(), CHUNK):
        block = spec.block(rows, columns)
        scores = encoding.scores(q[:, :, query_slice], k[:, :, columns], spec.scale, block)
        weights = softmax_with_sink(scores + spec.additive_mask(block), encoding.sink())
        outputs.append(encoding.values(weights.to(v.dtype), v[:, :, columns], block))
    return torch.cat(outputs, dim=2)


KERNELS = {"dense": dense_attention, "chunked": chunked_attention, "flash": flash_attention, "flex": flex_attention}


def _bias(k: Tensor, spec: LogitsSpec) -> chunked.Bias | None:
    """The bias in the form that `chunked.attention` takes, None if that kernel cannot serve the encoding."""
    if spec.is_distance_bias:
        table = spec.shared.table
        return torch.zeros(1, k.shape[2], device=k.device) if table is None else table
    if not spec.is_additive or spec.shared.additive_mask is not None:
        return spec.shared.additive_mask
    if torch.is_grad_enabled() or torch.compiler.is_compiling():  # no gradient passes through a function
        return None
    return lambda rows, columns: spec.additive_mask(spec.block(rows, columns))


def flex_is_worthwhile(q: Tensor) -> bool:
    """Return True if the compiled kernel is faster for these queries and passes its self-test."""
    fits = q.is_cuda and q.shape[2] >= FLEX_MIN_QUERIES and q.shape[3] >= FLEX_MIN_HEAD_DIM
    return fits and _flex_passes(q.device)


def _flex_passes(device: torch.device) -> bool:
    return flex_passes_self_test(device)


def prepare_compiling(device: torch.device) -> None:
    """Make the self-test a constant of compiled graphs: it cannot be traced, so it runs here, before.

    Not a decorator, which would import torch._dynamo, seconds of every start of a command.
    """
    if device.type == "cuda":
        flex_passes_self_test(device)
    torch.compiler.assume_constant_result(_flex_passes)


@cache
def flex_passes_self_test(device: torch.device) -> bool:
    """Return True if FlexAttention compiles on this machine and agrees with the dense kernel; otherwise warn why not.

    Runs once per process, because a model trains with a wrong kernel without any sign of it.
    """
    try:
        error = _flex_max_relative_error(device)
        reason = "" if error < FLEX_TOLERANCE else f"values or gradients differ by {error:.1e}"
    except Exception as failure:  # a compiler may raise anything
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
    if reason:
        warnings.warn(f"FlexAttention is not used on {device}: {reason}", stacklevel=2)
    return not reason


def _flex_max_relative_error(device: torch.device) -> float:
    """Largest difference from the dense kernel in the output and in every gradient, that of the table included."""
    length, head_dim = FLEX_MIN_QUERIES, FLEX_MIN_HEAD_DIM
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, length, head_dim, generator=draw).to(device).requires_grad_() for _ in range(3))
    table = torch.randn(2, length, generator=draw).to(device).requires_grad_()
    shape = Shape(2 * head_dim, heads=2, kv_heads=2, head_dim=head_dim, layers=1, train_length=length)
    context = Context(torch.arange(length, device=device)[None], length, length, length, contiguous=True)
    spec = LogitsSpec(PositionEncoding(shape), context, SharedAcrossLayers(table=table), {}, head_dim**-0.5)

    inputs, weights = (q, k, v, table), torch.randn(v.shape, generator=draw).to(device)
    # Evaluation disables gradients, and autocast would round the products.
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        outputs = [kernel(q, k, v, spec) for kernel in (flex_attention, dense_attention)]
        gradients = [torch.autograd.grad((output * weights).sum(), inputs) for output in outputs]
    pairs = [outputs, *zip(*gradients, strict=True)]
    return max((a - b).abs().max().item() / b.abs().max().item() for a, b in pairs)
