"""The number of times that a layer-independent bias is computed."""

import pytest
import torch
from tiny_models import tiny, tokens

from model.pe.base import Block
from model.pe.fire import Fire


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(queries, keys) of each call of FIRE's `bias`."""
    sizes, compute = [], Fire.bias

    def bias(encoding: Fire, block: Block) -> torch.Tensor:
        sizes.append((block.query_positions.shape[1], block.key_positions.shape[1]))
        return compute(encoding, block)

    monkeypatch.setattr(Fire, "bias", bias)
    return sizes


def test_once_for_all_layers(calls: list):
    model, x = tiny("fire"), tokens(2, 41)
    model(x[:, :-1], x[:, 1:])
    assert calls == [(40, 40)]


def test_chunked_prefill_where_memory_is_short(calls: list, monkeypatch: pytest.MonkeyPatch):
    model, x = tiny("fire"), tokens(2, 40)
    monkeypatch.setattr("model.attention.logits.CHUNK", 1)
    monkeypatch.setattr("model.attention.logits.MAX_MASK_BYTES", 4 * 16 * 40 * model.shape.heads)  # 16 queries
    with torch.no_grad():
        model(x)
    assert calls == [(16, 16), (16, 32), (8, 40)]


def test_tile_by_tile_in_every_layer_where_gradients_are_needed_and_memory_is_short(
    calls: list, monkeypatch: pytest.MonkeyPatch
):
    """A cache would not carry gradients."""
    model, x = tiny("fire"), tokens(2, 41)
    monkeypatch.setattr("model.attention.logits.CHUNK", 1)
    monkeypatch.setattr("model.attention.logits.MAX_MASK_BYTES", 1)
    monkeypatch.setattr("model.attention.dispatch.CHUNK", 16)
    model(x[:, :-1], x[:, 1:]).backward()
    assert calls == [(16, 16), (16, 32), (8, 40)] * len(model.layers)
