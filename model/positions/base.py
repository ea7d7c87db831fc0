"""Position plans: which positions the tokens of a sequence are given. The encodings stay, the numbers change."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape


@dataclass(frozen=True)
class Sequences:
    """What a plan may know of the sequences it gives positions to.

    generator: what a random plan draws from.  tokens (batch, at most length) and documents (batch, length), the number
    of the document of each token in packed rows: for plans that look at them.
    """

    batch: int
    device: torch.device
    training: bool = False
    generator: torch.Generator | None = None
    tokens: Tensor | None = None
    documents: Tensor | None = None


class PositionPlan:
    """Token t is at position t. Other plans override `positions`, or `Drawn.draw` if they are random."""

    contiguous = True  # positions are start, start + 1, ... in every sequence, at least where the plan is not `active`
    fractional = False  # positions are float32 and not whole
    drawn = False  # where active, positions are drawn all at once: those of a prefix are not those of the whole
    max_length: int | None = None  # longest sequence there are positions for
    ids = 1  # positions a token: with 2 they are (batch|1, length, 2)

    def __init__(self, shape: Shape):
        self.shape = shape

    def active(self, training: bool, packed: bool = False) -> bool:
        """Whether positions may differ from 0, 1, 2, ... in this phase. packed: documents are given."""
        return True

    def end(self, length: int, training: bool, which: int = 0) -> int:
        """All positions of a sequence of `length` tokens are below it. which: of two ids a token."""
        return length

    def positions(self, length: int, of: Sequences) -> Tensor:
        """Positions of the first `length` tokens of each sequence, (batch|1, length), increasing inside a document.

        With two `ids`: (batch|1, length, 2).
        """
        return torch.arange(length, device=of.device)[None]


class Drawn(PositionPlan):
    """Base of the random plans: the subclass defines `draw`, and `end` if positions go further than the length.

    Each sequence of a batch has a draw of its own. It comes from `generator` where one is given, so a training step
    that seeds one with (seed, step) can be repeated; training without one draws from torch's global generator, as
    dropout does. Evaluation without one draws from a generator seeded with the sequence's own tokens: other sequences
    other positions, and the same ones whatever the batch size or the number of processes.
    """

    drawn = True
    contiguous = False
    evaluation = "contiguous"  # or "law": as in training, or "even": `mean`

    def active(self, training: bool, packed: bool = False) -> bool:
        return training or self.evaluation != "contiguous"

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Random positions (batch, length), int64 or float32, on the generator's device.

        In one call of the generator, row after row: then a batch may be cut into smaller ones and draws the same.
        """
        raise NotImplementedError

    def mean(self, length: int, device: torch.device) -> Tensor:
        """The mean of what `draw` returns, evenly spaced, (1, length)."""
        raise NotImplementedError

    def positions(self, length: int, of: Sequences) -> Tensor:
        if not self.active(of.training):
            return super().positions(length, of)
        if not of.training and self.evaluation == "even":
            return self.mean(length, of.device)
        generator = torch.default_generator if of.generator is None and of.training else of.generator
        if generator is not None:
            return self.draw(of.batch, length, generator).to(of.device)
        assert of.tokens is not None, "a random plan in evaluation needs a generator or the tokens"
        return torch.cat([self.draw(1, length, _generator_of(row)) for row in of.tokens.cpu()]).to(of.device)


def stretched(shape: Shape, value: int | None, key: str) -> int:
    """The end of the positions that a random plan spreads over: `value`, or 16 times the training length if null."""
    end = 16 * shape.train_length if value is None else value
    if end < shape.train_length:
        raise ModelError(
            f"positions.{key}={value}: less than the training length {shape.train_length}.\n"
            f"Try positions.{key}={16 * shape.train_length}"
        )
    return end


def _generator_of(tokens: Tensor) -> torch.Generator:
    digest = hashlib.blake2b(tokens.numpy().tobytes(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))
