"""Chunked prefill: a long sequence goes through all layers one chunk of tokens after another, with a KV cache.

An encoding with an expensive bias that all layers share (FIRE, DAPE without content) computes the additive mask of a
chunk once, where it would not fit into memory for the whole sequence at a time.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .attention.logits import LogitsSpec
from .pe.base import Context, PositionEncoding


def chunk_size(encodings: Iterable[PositionEncoding], context: Context) -> int:
    """Number of tokens per chunk: as many as all additive masks that are shared across layers allow, else all."""
    specs = [LogitsSpec(encoding, context) for encoding in encodings]
    return min(
        (spec.max_queries for spec in specs if spec.layer_independent and spec.encoding.overrides("bias")),
        default=context.queries,
    )


def chunked_prefill(forward: Callable[[Tensor, int], Tensor], tokens: Tensor, size: int, num_last: int) -> Tensor:
    """Outputs (B, num_last, D) of the last of the tokens (B, T), computed `size` tokens at a time.

    forward(chunk, n): outputs (B, n, D) of the last n >= 1 tokens of a chunk that follows the chunks before it.
    """
    outputs, remaining = [], tokens.shape[1]
    for chunk in tokens.split(size, 1):
        remaining -= chunk.shape[1]
        needed = min(max(num_last - remaining, 0), chunk.shape[1])
        outputs.append(forward(chunk, max(needed, 1))[:, max(needed, 1) - needed :])
    return torch.cat(outputs, 1)
