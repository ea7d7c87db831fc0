"""Compiled FlexAttention (2412.05496) for CUDA: biases over distance, masks, packed documents, sinks and regions.

No T x T tensor exists: the compiled kernel gathers the bias of a pair from the table, and skips blocks of 128 x 128
pairs that are hidden entirely (the future, keys outside a window, other documents). On a CPU the same code runs
uncompiled and without a backward pass, which is how its values are tested.

Shapes: q (B, H, Tq, d), k (B, H, T, d), v (B, H, T, d_v) -> (B, H, Tq, d_v); the queries are the last Tq of T tokens.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .logits import LogitsSpec


def flex_attention(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec) -> Tensor:
    """Softmax over each region of keys, merged by their log-sum-exp; a sink is one more region."""
    mapped = spec.encoding.regions(q, k) or [(q, k)]
    numbers = range(len(mapped)) if len(mapped) > 1 else [None]
    results = [_attend_region(*pair, v, spec, number) for pair, number in zip(mapped, numbers, strict=True)]
    outputs, lses = zip(*results, strict=True)  # (B, H, Tq, d_v) and (B, H, Tq)
    sink = spec.encoding.sink()
    if len(results) == 1 and sink is None:
        return outputs[0]
    sinks = [] if sink is None else [sink.float()[:, None].expand_as(lses[0])]
    total = torch.logsumexp(torch.stack([*lses, *sinks]), 0)
    merged = sum((lse - total).exp()[..., None] * output.float() for output, lse in results)
    return torch.as_tensor(merged).to(v.dtype)


def _attend_region(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec, region: int | None) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the keys of one region, or of all keys; -inf where a query has no such key."""
    from torch.nn.attention.flex_attention import AuxRequest

    score = None if spec.shared.table is None else score_mod(spec, k.shape[2] - q.shape[2])
    visible, aux = block_mask(q, k, spec, region), AuxRequest(lse=True)
    output, result = _flex_attention(q.is_cuda)(q, k, v, score, visible, scale=spec.scale, return_aux=aux)
    return output, result.lse


def score_mod(spec: LogitsSpec, offset: int) -> Callable[..., Tensor]:
    """FlexAttention's score_mod: adds the table's entry of a pair to its logit. offset: tokens before the queries."""
    table, positions = spec.shared.table, spec.context.positions
    assert table is not None
    last, heads, rows = table.shape[1] - 1, table.shape[0] > 1, positions.shape[0] > 1
    contiguous = spec.context.contiguous

    def add(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = b if rows else 0
        distance = i + offset - j if contiguous else positions[row, i + offset] - positions[row, j]
        return score + table[h if heads else 0, distance.clamp(0, last)]

    return add


def block_mask(q: Tensor, k: Tensor, spec: LogitsSpec, region: int | None) -> Any:
    """FlexAttention's BlockMask of a region. Created once per forward pass: the layers share it."""
    masks = spec.shared.block_masks
    if region not in masks:
        documents = spec.context.documents
        batch = max(len(spec.context.positions), 1 if documents is None else len(documents))
        masks[region] = _create_block_mask(q.is_cuda)(
            mask_mod(spec, k.shape[2] - q.shape[2], region),
            batch if batch > 1 else None,
            None,
            q.shape[2],
            k.shape[2],
            device=q.device.type,
        )
    return masks[region]


def mask_mod(spec: LogitsSpec, offset: int, region: int | None) -> Callable[..., Tensor]:
    """FlexAttention's mask_mod: the keys that `LogitsSpec.additive_mask` leaves visible, restricted to one region."""
    positions, documents, encoding = spec.context.positions, spec.context.documents, spec.encoding
    window, rows = encoding.window_size(), positions.shape[0] > 1

    def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = b if rows else 0
        query, key = positions[row, i + offset], positions[row, j]
        result = j <= i + offset
        if window is not None:
            result = result & (i + offset - j < window)
        if documents is not None:
            result = result & (documents[b, i + offset] == documents[b, j])
        allowed = encoding.allowed(query, key)
        if allowed is not None:
            result = result & allowed
        if region is not None:
            result = result & (encoding.region(query, key) == region)
        return result

    return visible


@cache
def _flex_attention(compiled: bool) -> Callable[..., Any]:
    """Imported here because the compiler takes a second to import, and few runs need it."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention


@cache
def _create_block_mask(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask, dynamic=False) if compiled else create_block_mask
