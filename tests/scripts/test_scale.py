"""The figures of docs/scale.md."""

import pytest

from model import build
from scripts.dev import scale


@pytest.fixture(scope="module")
def tiny() -> scale.Size:
    return scale.measure("tiny")


def test_state_is_16_bytes_a_parameter(tiny: scale.Size):
    assert tiny.state(8, "ddp") == 16 * tiny.parameters
    assert tiny.state(8, "fsdp") < tiny.state(8, "ddp") / 3
    assert tiny.state(64, "fsdp") > 16 * tiny.parameters / 64


def test_what_is_sent(tiny: scale.Size):
    assert tiny.sent(1, "ddp") == 0
    assert tiny.sent(2, "ddp") == 4 * tiny.parameters
    assert tiny.sent(2, "fsdp") == 1.5 * tiny.sent(2, "ddp")
    assert tiny.sent(2, "fsdp", micro_batches=2) == 2.5 * tiny.sent(2, "ddp")
    seconds = tiny.sent(64, "ddp") / scale.BETWEEN
    assert scale.enough_tokens(64, "ddp") * 6 * tiny.parameters / scale.FLOPS == pytest.approx(seconds)


def test_recomputing_keeps_less_and_the_gradients_are_the_same(tiny: scale.Size):
    import torch

    assert tiny.recomputed < tiny.saved / 2
    model = build(300, 16, scale.options("tiny") | {"dropout": 0.1}, "t5")
    tokens = torch.arange(32).view(2, 16)
    gradients = []
    for model.checkpoint_activations in (False, True):
        torch.manual_seed(0)
        model.loss(tokens, tokens).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        model.zero_grad()
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


def test_the_page_has_the_tables_of_this_code(tiny: scale.Size):
    page = scale.PAGE.read_text()
    for line in scale.tables([tiny]).splitlines():
        assert line in page
