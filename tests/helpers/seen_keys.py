"""Which keys an encoding lets a query see, asked of the kernel that would be chosen."""

import torch
from torch import Tensor

from model.attention.dispatch import attend
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import Context, PositionEncoding

TRAIN_LENGTH = 64


def context(length: int, documents: Tensor | None = None) -> Context:
    return Context(torch.arange(length)[None], length, TRAIN_LENGTH, length, True, documents)


def visible(encoding: PositionEncoding, length: int, documents: Tensor | None = None) -> Tensor:
    """Which keys have any weight, boolean (batch, length, length): values are one-hot, so outputs are the weights."""
    batch = 1 if documents is None else len(documents)
    there = context(length, documents)
    nothing = torch.zeros(batch, 4, length, 8)
    spec = LogitsSpec(
        encoding, there, SharedAcrossLayers.of(encoding, there), encoding.content_features({}, there), 1.0
    )
    weights = attend(nothing, nothing, torch.eye(length).expand(batch, 4, -1, -1), spec)
    return (weights > 0).all(dim=1)
