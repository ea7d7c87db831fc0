"""Small models to extend, and which encoding each extension is for."""

import pytest
import torch
from rotary_reference import TRAIN_LENGTH
from torch import Tensor

from model import build
from model.extension.registry import names
from model.pe.base import PositionEncoding
from model.transformer import Transformer

VOCABULARY, LONG = 48, 4 * TRAIN_LENGTH
every_extension = pytest.mark.parametrize("name", names())


def model(pe: str | dict = "rope", **options: object) -> Transformer:
    shape = {"layers": 2, "width": 32, "heads": 2, "tie": False}
    return build(VOCABULARY, TRAIN_LENGTH, shape | options.pop("model", {}), pe, **options).eval()


def tokens(length: int) -> Tensor:
    return torch.randint(VOCABULARY, (2, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(network: Transformer, x: Tensor, **how: object) -> Tensor:
    return network(x, **how)


def layers(network: Transformer) -> list[PositionEncoding]:
    return [network.encodings[which] for which in network.encoding_of_layer]


def fitting(name: str) -> str:
    """An encoding that the extension applies to."""
    return {"t5_rescale": "t5", "alibi_rescale": "alibi", "table_interpolation": "learned"}.get(name, "rope")
