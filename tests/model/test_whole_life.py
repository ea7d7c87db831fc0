"""Trained for a few steps, evaluated at four times the length and sampled from: every encoding, plan and extension."""

import pytest
import torch
from tiny_models import TRAIN_LENGTH, VOCABULARY, longest, tiny, tokens
from tiny_plans import NEEDS

from model import build
from model.extension.registry import extensions
from model.generate import generate
from model.pe.registry import names
from model.positions.registry import plans
from model.transformer import Transformer

STEPS, NEW = 3, 3


def planned(name: str) -> Transformer:
    """A model with this position plan, and an encoding that reads what it hands out."""
    pe = "bipe" if plans.load(plans.options(name)["scheme"]).ids == 2 else "rope"
    positions = {"name": name} | NEEDS.get(name, {})
    return build(VOCABULARY, TRAIN_LENGTH, {"layers": 4, "width": 32, "heads": 4, "tie": False}, pe, positions)


def live(model: Transformer) -> None:
    x = tokens(2, TRAIN_LENGTH + 1)
    inputs, targets = x[:, :-1], x[:, 1:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(STEPS + 1):  # the last step only looks
        optimizer.zero_grad()
        loss = model.train().loss(inputs, targets, generator=torch.Generator().manual_seed(step))
        losses.append(loss.item())
        if step < STEPS:
            loss.backward()
            optimizer.step()
    assert losses[-1] < losses[0]
    length = longest(model.eval(), 4 * TRAIN_LENGTH)
    x = tokens(1, length)
    nll = model.nll(x, x.roll(-1, 1), generator=torch.Generator().manual_seed(0))
    assert nll.shape == (length,)
    assert nll.isfinite().all()
    assert nll.mean() < 3 * losses[0]  # far from a disaster, and a code that explodes is one
    prompt = tokens(2, length - NEW + 1)
    sample = generate(model, prompt, NEW, top_k=20, generator=torch.Generator().manual_seed(7))
    assert torch.equal(sample[:, : prompt.shape[1]], prompt)
    assert sample.shape[1] == length + 1  # the last token is not fed
    assert 0 <= sample.min() <= sample.max() < VOCABULARY


@pytest.mark.parametrize("name", names())
def test_an_encoding(name: str) -> None:
    live(tiny(name))


@pytest.mark.parametrize("name", plans.names())
def test_a_position_plan(name: str) -> None:
    live(planned(name))


@pytest.mark.parametrize("name", extensions.names())
def test_an_extension_that_the_model_is_trained_with(name: str) -> None:
    live(tiny(f"+{name}"))
