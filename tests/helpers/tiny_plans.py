"""Position plans and models for them, small enough to look at every number."""

import torch
from torch import Tensor

from model import build
from model.positions.base import PositionPlan, SequenceBatch
from model.positions.registry import plans
from model.shape import Shape
from model.transformer import Transformer

LENGTH, VOCABULARY = 32, 40
SHAPE = Shape(width=32, heads=4, kv_heads=4, head_dim=8, layers=4, train_length=LENGTH)
NEEDS = {"segments": {"delimiters": [3, 7]}, "digits": {"digits": [1, 2, 3, 4]}}  # options without a default
SMALL = {"layers": 4, "width": 32, "heads": 4, "tie": False}


def plan(name: str | dict) -> PositionPlan:
    return plans.create(SHAPE, {"name": name} | NEEDS.get(name, {}) if isinstance(name, str) else name)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given(name: str | dict, batch: int, length: int, *, training: bool = True, seed: int = 0, **more) -> Tensor:
    """What a plan answers; it draws from `seed` unless a generator or the tokens are given."""
    if "tokens" not in more:
        more = {"generator": seeded(seed)} | more
    return plan(name).positions(length, SequenceBatch(batch, torch.device("cpu"), training, **more))


def model(pe: str | dict, positions: str | dict = "contiguous") -> Transformer:
    return build(VOCABULARY, LENGTH, SMALL, pe, positions)


def text(batch: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=seeded(seed))


def equally_likely(counts: Tensor, tolerance: float = 5.0) -> bool:
    """Whether counts look like draws from a uniform law: each within `tolerance` standard deviations of the mean."""
    mean = counts.double().mean()
    return bool(((counts - mean).abs() <= tolerance * mean.sqrt()).all())
