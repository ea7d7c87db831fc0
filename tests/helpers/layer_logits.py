"""Attention logits of one layer by our code, and encodings with somebody else's learned numbers."""

import torch
from one_layer import HEAD_DIM, LENGTH, TRAIN_LENGTH, Layer
from torch import Tensor

from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import Context, PositionEncoding, scaled_scores

CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def logits_of(encoding: PositionEncoding, layer: Layer) -> Tensor:
    """Attention logits (B, H, T, T) of keys that are not in the future; 0 elsewhere."""
    n = layer.q.shape[2]
    context = Context(layer.positions, n, TRAIN_LENGTH, n, layer.contiguous)
    shared = SharedAcrossLayers.of(encoding, context)
    features = encoding.content_features(encoding.token_state(layer.x), context)
    spec = LogitsSpec(encoding, context, shared, features, HEAD_DIM**-0.5)
    block = spec.block(slice(0, n), slice(0, n))
    logits = encoding.scores(layer.q, layer.k, spec.scale, block)
    if shared.table is not None:
        logits = logits + block.expand_by_distance(shared.table)
    bias = encoding.bias(block)
    return causal(logits if bias is None else logits + bias)


def content(layer: Layer) -> Tensor:
    """q k / sqrt(d), (B, H, T, T)."""
    return scaled_scores(layer.q, layer.k, HEAD_DIM**-0.5)


def bias_of(encoding: PositionEncoding, layer: Layer) -> Tensor:
    """What the encoding adds to q k / sqrt(d)."""
    return logits_of(encoding, layer) - causal(content(layer))


def causal(logits: Tensor) -> Tensor:
    return torch.where(CAUSAL, logits.detach(), 0)


def copied(encoding: PositionEncoding, **values: Tensor) -> PositionEncoding:
    """The encoding with the other implementation's learned numbers; `__` in a name stands for a dot."""
    with torch.no_grad():
        for name, value in values.items():
            parameter = encoding.get_parameter(name.replace("__", "."))
            parameter.copy_(value.reshape(parameter.shape))
    return encoding
