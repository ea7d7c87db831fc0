"""Batches for training: a pure function of (seed, step).

There is no sampler state. The token stream is cut into windows, an epoch visits every window once in an order
that a keyed bijection computes on the spot, and sample number g = step * batch + row names its window by
arithmetic alone. So a run resumes from its step counter, and the global batch does not depend on how many
ranks share it.

Shapes: B rows of this rank, T length.
"""

import numpy as np
import torch

from longrun.base.errors import DataError

_ROUNDS = 6  # Feistel rounds; four suffice for a pseudo-random permutation (Luby & Rackoff 1988)


class Batches:
    """Windows of `length` + 1 tokens out of one token stream, in a seeded order without end.

    tokens: 1-D integer array, usually a memory map; it is read by slices and never copied as a whole.
    length: tokens a row feeds; a row predicts as many, one place later.
    batch: rows of the global batch, over all ranks.
    seed: any integer; it fixes the order, and with it every batch.

    Windows lie `length` tokens apart, so inside an epoch every prediction is made once. They begin at an
    offset that each epoch draws anew, so that over epochs a token is seen at every place of a window. Up to
    two windows' worth of tokens at the ends of the stream is left out of an epoch, which makes every epoch
    equally long.
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
        self.tokens = np.asarray(tokens)  # a plain view: fancy indexing of np.memmap is slower
        self.length, self.batch_size = length, batch
        self.seed = seed & (2**64 - 1)
        # As many windows as fit after any offset in [0, length); a stream shorter than two windows has one.
        self.windows_per_epoch = max(1, (len(tokens) - length) // length)
        self._offsets = min(length, len(tokens) - self.windows_per_epoch * length)

    @property
    def tokens_per_epoch(self) -> int:
        return self.windows_per_epoch * self.length

    def sample_ids(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """int64 (B,): epoch * windows_per_epoch + window, a name that no two samples of a run share."""
        epochs, windows = self._samples(step, rank, world)
        return epochs * self.windows_per_epoch + windows

    def starts(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """int64 (B,): where in the stream each row of this rank begins."""
        epochs, windows = self._samples(step, rank, world)
        offsets = _mix(_key(self.seed, epochs, 1)) % np.uint64(self._offsets)
        return windows * self.length + offsets.astype(np.int64)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, int64 (B, T): rows `rank::world` of global batch number `step`."""
        places = self.starts(step, rank, world)[:, None] + np.arange(self.length + 1)
        rows = torch.from_numpy(self.tokens[places].astype(np.int64))
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def _samples(self, step: int, rank: int, world: int) -> tuple[np.ndarray, np.ndarray]:
        """Epoch and window, int64 (B,), of this rank's rows."""
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
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): uint64 to uint64, one to one, well scattered."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(seed: int, epochs: np.ndarray, purpose: int) -> np.ndarray:
    """One uint64 key for each (seed, epoch, purpose)."""
    keys = _mix(np.full(epochs.shape, seed, np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return _mix(_mix(keys ^ epochs.astype(np.uint64)) + np.uint64(purpose))


def _permute(places: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """Where a shuffle of [0, count) puts each place, int64; `keys`, one for each place, choose the shuffle.

    A Feistel network permutes the next larger power of four; walking on while the result lies outside [0,
    count) restricts it to a permutation of that range (Black & Rogaway 2002). It needs no table, so a corpus
    of 10^9 windows costs as little as one of ten, and it cannot change with the version of a random number
    generator.
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
