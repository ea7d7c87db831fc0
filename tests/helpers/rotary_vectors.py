"""Queries and keys, and what our rotary encodings make of them."""

import torch
from torch import Tensor

from model.pe.base import Block, Context, PositionEncoding
from model.pe.registry import encodings_for
from model.shape import Shape

HEADS, LENGTH = 3, 50


def shape(head_dim: int, train_length: int) -> Shape:
    return Shape(HEADS * head_dim, HEADS, HEADS, head_dim, layers=1, train_length=train_length)


def context(length: int = LENGTH, train_length: int = 32) -> Context:
    return Context(torch.arange(length)[None], length, train_length, length, contiguous=True)


def vectors(head_dim: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, HEADS, length, head_dim, generator=generator) for _ in range(2))
    return q, k


def encoding_of(pe: str | dict, head_dim: int, train_length: int = 32) -> PositionEncoding:
    return encodings_for(shape(head_dim, train_length), pe)[0]


def mapped(scheme: PositionEncoding, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Our queries and keys after the encoding."""
    here = context(q.shape[2])
    prepared = scheme.prepare(here)
    with torch.no_grad():
        return scheme.map_q(q, here, prepared, {}), scheme.map_k(k, here, prepared, {})


def logits(pe: str | dict | PositionEncoding, q: Tensor, k: Tensor) -> Tensor:
    """Our logits of all pairs that are not in the future, 0 elsewhere."""
    scheme = pe if isinstance(pe, PositionEncoding) else encoding_of(pe, q.shape[-1])
    here, whole = context(q.shape[2]), slice(0, q.shape[2])
    block = Block(here, scheme.prepare(here), scheme.content_features({}, here), whole, whole)
    return torch.tril(scheme.scores(*mapped(scheme, q, k), scheme.shape.head_dim**-0.5, block))
