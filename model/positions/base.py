"""Position plans: the position ids of the tokens of a sequence. The encoding is the same under every plan."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape


@dataclass(frozen=True)
class SequenceBatch:
    """The sequences that a plan assigns positions to.

    generator: the source of a random plan.  tokens (batch, at most length) and documents (batch, length), the index of
    the document of each token in packed rows: for plans that depend on them.
    """

    batch: int
    device: torch.device
    training: bool = False
    generator: torch.Generator | None = None
    tokens: Tensor | None = None
    documents: Tensor | None = None


class PositionPlan:
    """Token t is at position t. Other plans override `positions`, or `RandomPlan.draw` if they are random."""

    contiguous = True  # positions are start, start + 1, ... in every sequence, at least while the plan is not `active`
    fractional = False  # positions are float32 and not integers
    drawn = False  # positions are random while active; those of a prefix differ from those of the longer sequence
    max_length: int | None = None  # longest sequence that has positions
    ids = 1  # position ids per token; with 2, positions are (batch|1, length, 2)

    def __init__(self, shape: Shape):
        self.shape = shape

    def active(self, training: bool, packed: bool = False) -> bool:
        """Return whether positions may differ from 0, 1, 2, ... in this phase. packed: documents are given."""
        return True

    def end(self, length: int, training: bool, which: int = 0) -> int:
        """Upper bound (exclusive) of the positions of a sequence of `length` tokens. which: of two ids per token."""
        return length

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        """Positions of the first `length` tokens of each sequence, (batch|1, length), increasing within a document.

        With two `ids`: (batch|1, length, 2).
        """
        return torch.arange(length, device=of.device)[None]


class RandomPlan(PositionPlan):
    """Base of the random plans: the subclass defines `draw`, and `end` if positions exceed the length.

    Each sequence of a batch has its own draw. It comes from `generator` if there is one, so a training step that seeds
    it with (seed, step) is repeatable. Training without a generator draws from torch's global one, as dropout does.
    Evaluation without one draws from a generator seeded with the tokens of the sequence: the positions of a sequence
    then do not depend on the batch size or the number of processes.
    """

    drawn = True
    contiguous = False
    evaluation = "contiguous"  # or "law": drawn as in training, or "even": `mean`

    def active(self, training: bool, packed: bool = False) -> bool:
        return training or self.evaluation != "contiguous"

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Random positions (batch, length), int64 or float32, on the generator's device.

        A single call of the generator, row after row, so that micro-batches draw the same positions as the whole batch.
        """
        raise NotImplementedError

    def mean(self, length: int, device: torch.device) -> Tensor:
        """The mean of the distribution of `draw`, evenly spaced, (1, length)."""
        raise NotImplementedError

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        if not self.active(of.training):
            return super().positions(length, of)
        if not of.training and self.evaluation == "even":
            return self.mean(length, of.device)
        generator = torch.default_generator if of.generator is None and of.training else of.generator
        if generator is not None:
            return self.draw(of.batch, length, generator).to(of.device)
        assert of.tokens is not None, "a random plan in evaluation needs a generator or the tokens"
        return torch.cat([self.draw(1, length, _generator_of(row)) for row in of.tokens.cpu()]).to(of.device)


def checked_end(shape: Shape, value: int | None, key: str) -> int:
    """The end of the positions of a random plan: `value`, or 16 times the training length if null.

    Raises ModelError if it is below the training length.
    """
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
