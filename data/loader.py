"""Batches for training as a pure function of (seed, step): a shuffle without a table.

There is no sampler state. The token stream is cut into windows, and an epoch visits every window once. A keyed
bijection computes the order, so sample number g = step * batch + row maps to its window by arithmetic alone. A run
resumes from its step counter, and the global batch does not depend on the number of ranks.

Shapes: B rows of this rank, T length.
"""

import numpy as np
import torch

from longrun.base.errors import DataError

_ROUNDS = 6  # Feistel rounds; four suffice for a pseudo-random permutation (Luby & Rackoff 1988)


class Batches:
    """Windows of `length` + 1 tokens of one token stream, in an endless seeded order.

    tokens: 1-D integer array, usually a memory map; it is read in slices and never copied as a whole.
    length: input tokens per row; the targets are the same number of tokens, shifted by one.
    batch: rows of the global batch, over all ranks.
    seed: any integer; it determines the order, and with it every batch.

    Windows are `length` tokens apart, so within an epoch every token is a target once. Each epoch draws a new offset
    for them, so that over epochs a token occurs at every position of a window. An epoch omits up to two windows of
    tokens at the ends of the stream, so that all epochs have the same length.
    """

    def __init__(self, tokens, length: int, batch: int, seed: int):
        if length < 1 or batch < 1:
            raise DataError(
                f"train.length={length} and train.batch={batch} must both be at least 1.\n"
                "For example train.length=128 train.batch=32."
            )
        if len(tokens) < length + 1:
            raise DataError(
                f"train.length={length} needs {length + 1} tokens, the training split has {len(tokens)}.\n"
                f"Use train.length={max(len(tokens) - 1, 1)} or less, or a larger corpus."
            )
        self.tokens = np.asarray(tokens)  # a plain array view: fancy indexing of np.memmap is slower
        self.length, self.batch_size = length, batch
        self.seed = seed & (2**64 - 1)
        # As many windows as fit after any offset in [0, length); a stream shorter than two windows has one.
        self.windows_per_epoch = max(1, (len(tokens) - length) // length)
        self._offsets = min(length, len(tokens) - self.windows_per_epoch * length)

    @property
    def tokens_per_epoch(self) -> int:
        return self.windows_per_epoch * self.length

    def sample_ids(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Return int64 (B,): epoch * windows_per_epoch + window, unique for each sample of a run."""
        epochs, windows = self._samples(step, rank, world)
        return epochs * self.windows_per_epoch + windows

    def starts(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Return int64 (B,): the position in the stream where each row of this rank begins."""
        epochs, windows = self._samples(step, rank, world)
        offsets = _mix(_key(self.seed, epochs, 1)) % np.uint64(self._offsets)
        return windows * self.length + offsets.astype(np.int64)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, int64 (B, T): rows `rank::world` of global batch number `step`."""
        places = self.starts(step, rank, world)[:, None] + np.arange(self.length + 1)
        rows = torch.from_numpy(self.tokens[places].astype(np.int64))
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def _samples(self, step: int, rank: int, world: int) -> tuple[np.ndarray, np.ndarray]:
        """Return epoch and window, int64 (B,), of this rank's rows."""
        if self.batch_size % world:
            raise DataError(
                f"train.batch={self.batch_size} rows cannot be shared evenly by {world} processes.\n"
                f"Use a multiple of {world}, such as {-(-self.batch_size // world) * world}."
            )
        assert 0 <= rank < world
        assert step >= 0
        numbers = step * self.batch_size + np.arange(rank, self.batch_size, world, dtype=np.int64)
        epochs, places = np.divmod(numbers, self.windows_per_epoch)
        return epochs, _permute(places, self.windows_per_epoch, _key(self.seed, epochs, 0))


def _mix(x: np.ndarray) -> np.ndarray:
    """Apply SplitMix64's finaliser (Steele, Lea & Flood 2014), a bijection of uint64 that mixes all bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(seed: int, epochs: np.ndarray, purpose: int) -> np.ndarray:
    """Return one uint64 key per (seed, epoch, purpose)."""
    keys = _mix(np.full(epochs.shape, seed, np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return _mix(_mix(keys ^ epochs.astype(np.uint64)) + np.uint64(purpose))


def _permute(places: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Shuffle [0, count) without a table: return the image of each place, int64. `keys`, one per place, select the
    permutation.

    A Feistel network permutes the next larger power of four. Applying it again while the result lies outside [0, count)
    gives a permutation of that range (cycle walking, Black & Rogaway 2002). A corpus of 10^9 windows takes no more
    memory than one of ten, and the order does not depend on the version of a random number generator.
    """
    half = np.uint64((max(count - 1, 1).bit_length() + 1) // 2)
    low = (np.uint64(1) << half) - np.uint64(1)
    result = places.astype(np.uint64)
    outside = np.ones(len(result), bool)
    while outside.any():
        x, key = result[outside], keys[outside]
        left, right = x >> half, x & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mix(right + _mix(key + np.uint64(turn))) & low)
        result[outside] = (left << half) | right
        outside = result >= count
    return result.astype(np.int64)
