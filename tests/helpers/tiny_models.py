"""Models of a few thousand parameters, built once per configuration, and ways to run them under a microscope."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

from model import build
from model.attention import dispatch
from model.errors import ModelError
from model.positions.base import PositionPlan, SequenceBatch
from model.transformer import Transformer

TRAIN_LENGTH, VOCABULARY, HEADS = 32, 64, 4
# Four layers because hybrids work in fours. Not tied: a head drawn from N(0, 1/D) makes logits of size 1.
SHAPE = {"layers": 4, "width": 32, "heads": HEADS, "tie": False}
EXTENDABLE = ("rope", "alibi", "t5", "learned")


def tiny(pe: str | dict, **shape: Any) -> Transformer:
    """A new model in evaluation mode; `shape` changes SHAPE. "+yarn" is what yarn extends, to 4 times its length."""
    options = {**SHAPE, **shape}
    if not isinstance(pe, str) or not pe.startswith("+"):
        return build(VOCABULARY, TRAIN_LENGTH, options, pe).eval()
    for base in EXTENDABLE:
        with suppress(ModelError):  # it does not apply to this one
            extension = {"extension": pe[1:], "extension_length": 4 * TRAIN_LENGTH}
            return build(VOCABULARY, TRAIN_LENGTH, options, base, **extension).eval()
    raise AssertionError(f"extension={pe[1:]} applies to none of {EXTENDABLE}; add what it is for")


@cache
def shared(name: str) -> Transformer:
    """The one model of `name` that all tests look at. Change nothing in it except inside `running`."""
    return tiny(name)


@cache
def tokens(batch: int, length: int) -> Tensor:
    """Random tokens int64 (batch, length); the first length - n columns are those of shorter ones."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(VOCABULARY, (length, batch), generator=generator).T.contiguous()


@contextmanager
def running(
    model: Transformer, kernel: str = "auto", chunk: int = dispatch.CHUNK, plan: PositionPlan | None = None
) -> Iterator[Transformer]:
    """`model` with another kernel, block size or position plan, and back."""
    before = model.kernel, model.plan, dispatch.CHUNK
    model.kernel, model.plan, dispatch.CHUNK = kernel, plan or model.plan, chunk
    try:
        yield model
    finally:
        model.kernel, model.plan, dispatch.CHUNK = before


@torch.no_grad()
def logits(model: Transformer, x: Tensor, *, documents: Tensor | None = None, **how: Any) -> Tensor:
    with running(model, **how):
        return model(x, documents=documents)


@torch.no_grad()
def decoded(model: Transformer, x: Tensor, cuts: Iterable[int], **how: Any) -> Tensor:
    """Logits of x fed through the cache in pieces, cut in front of these indices."""
    memory = model.new_cache()
    pieces = x.tensor_split([cut for cut in cuts if cut < x.shape[1]], 1)
    with running(model, **how):
        return torch.cat([model(piece, cache=memory) for piece in pieces], 1)


def values_and_gradients(model: Transformer, x: Tensor, **how: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradient of a fixed random projection of them by name of the parameter."""
    with running(model, **how):
        y = model(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    names, parameters = zip(*model.named_parameters(), strict=True)
    return y.detach(), dict(zip(names, torch.autograd.grad((y * weights).mean(), parameters), strict=True))


def longest(model: Transformer, wanted: int) -> int:
    """`wanted` tokens, or as many as the encoding has positions for."""
    return wanted if model.max_positions is None else min(wanted, model.max_positions)


def relative(model: Transformer) -> bool:
    return all(encoding.relative for encoding in model.encodings)


def plain(model: Transformer) -> bool:
    """Whether the flash kernel may serve every layer."""
    hooks = ("table", "bias", "scores", "allowed", "sink", "values")
    return not any(encoding.overrides(*hooks) for encoding in model.encodings)


class Shifted(PositionPlan):
    """start, start + 1, ...; `contiguous=False` makes the kernels read the positions instead of counting."""

    def __init__(self, start: int, contiguous: bool = True):
        self.start, self.contiguous = start, contiguous

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        return torch.arange(self.start, self.start + length, device=of.device)[None]


class Apart(PositionPlan):
    """The second half of the tokens is `gap` positions further on: long distances in a short sequence."""

    contiguous = False

    def __init__(self, gap: int):
        self.gap = gap

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        index = torch.arange(length, device=of.device)
        return (index + self.gap * (index >= length // 2))[None]


class Gapped(PositionPlan):
    """Increasing positions with gaps of 1 to 4, other ones in each row."""

    contiguous = False

    def __init__(self) -> None:
        pass

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        gaps = torch.randint(1, 5, (of.batch, length), generator=torch.Generator().manual_seed(0))
        return gaps.cumsum(1).to(of.device)


class Restarting(PositionPlan):
    """0, 1, 2, ... in each document of a packed row."""

    contiguous = False

    def __init__(self) -> None:
        pass

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        documents = of.documents
        index = torch.arange(length, device=of.device).expand(of.batch, length)
        starts = torch.ones_like(documents, dtype=torch.bool)
        starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
        return index - torch.where(starts, index, 0).cummax(1).values
