"""Evaluation protocols: which tokens are fed to the model, and which of its predictions are scored.

A protocol is a pure function from document offsets (`Corpus.documents(split)`, int64 (n + 1,)) to `Windows`.
All numbers are positions in the token stream of one split. A document begins with its separator token, which is
fed but never a target; the first token of the text is a target whose context is the separator. No window
crosses a document boundary.

Feeding tokens[feed_start:feed_end] predicts tokens[feed_start + 1:feed_end + 1]; scored are the targets
tokens[score_start:score_end], always among those predicted. L is a window's length in fed tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from longrun.base.errors import DataError


@dataclass(frozen=True, eq=False)
class Windows:
    """Parallel int64 arrays, one entry per window, in the order of the stream."""

    document: np.ndarray  # number of the document in the split
    feed_start: np.ndarray
    feed_end: np.ndarray
    score_start: np.ndarray
    score_end: np.ndarray

    def __len__(self) -> int:
        return len(self.document)

    def __getitem__(self, rows) -> "Windows":
        """Return the windows that an index array, a mask or a slice selects."""
        return Windows(*(getattr(self, each.name)[rows] for each in fields(self)))

    @property
    def feed_lengths(self) -> np.ndarray:
        return self.feed_end - self.feed_start

    @property
    def targets(self) -> int:
        """Number of scored predictions."""
        return int((self.score_end - self.score_start).sum())


@dataclass(frozen=True, eq=False)
class Selection:
    """Windows of one length and the tokens they refer to.

    tokens: integers (n,).  offsets: documents in it, int64 (d + 1,).
    answers: every window is a question, which counts as correct if all its targets are the most likely tokens.
    labels: further properties of the windows: {name: (len(windows),)}.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    windows: Windows
    answers: bool = False
    labels: dict[str, np.ndarray] = field(default_factory=dict)


def fixed_targets(
    offsets: np.ndarray,
    lengths: Sequence[int],
    targets: int,
    documents: int | None = None,
    blocks: int = 4,
) -> dict[int, Windows]:
    """The same blocks of `targets` tokens scored after contexts of every length (Su's ReRoPE evaluation).

    A window feeds the L tokens that end right before the last target. Blocks lie where the longest context
    exists: at least max(lengths) tokens into a document. Up to `blocks` of them are spread evenly over a
    document, and up to `documents` documents evenly over those long enough (None: all). So the scored set
    depends on max(lengths) and the options, and not on the length that is being evaluated.
    """
    _check_lengths(lengths)
    if not 1 <= targets <= min(lengths):
        raise DataError(
            f"targets={targets} must lie between 1 and the shortest length, {min(lengths)}:\n"
            "a window can score no more tokens than it is fed. Use fewer targets or longer lengths."
        )
    if blocks < 1:
        raise DataError(f"blocks={blocks}: at least one block of targets per document is needed, for example blocks=4.")
    longest = max(lengths)
    chosen = choose(offsets, longest + targets, documents, reserve=targets)
    room = np.diff(offsets)[chosen] - longest  # tokens of each document that have the longest context
    count = np.minimum(blocks, room // targets)
    owner, turn = _enumerate(count)
    slot, share = turn * room[owner] // count[owner], room[owner] // count[owner]
    margin = (share - targets) // 2  # a block lies in the middle of its share of the room
    start = offsets[chosen][owner] + longest + slot + margin
    end = start + targets
    return {length: Windows(chosen[owner], end - 1 - length, end - 1, start, end) for length in lengths}


def nonoverlap(offsets: np.ndarray, length: int, documents: int | None = None, minimum: int = 0) -> Windows:
    """Disjoint windows of `length`, all tokens scored: the classic evaluation, in which early tokens lack context.

    The last window of a document may be shorter. Every token of a document but its separator is scored
    exactly once. Documents of fewer than `minimum` tokens are left out; give the longest length that is
    evaluated there to score the same tokens at every length, all of them where that length can be reached.
    """
    return sliding(offsets, length, length, documents, minimum)


def sliding(offsets: np.ndarray, length: int, stride: int, documents: int | None = None, minimum: int = 0) -> Windows:
    """Windows of `length` that advance by `stride`; each scores what the one before did not reach.

    The first window of a document scores all its tokens, the last one may have fewer new tokens than `stride`
    and then is fed fewer. Every token but the separator is scored exactly once, with at least length - stride
    + 1 tokens of context once that many precede it. stride=1 is full context for every token; stride=length
    is `nonoverlap`.
    """
    _check_lengths([length])
    if not 1 <= stride <= length:
        raise DataError(
            f"stride={stride} must lie between 1 and the length, {length}:\n"
            "a longer stride would skip tokens. stride=1 gives full context, stride=length disjoint windows."
        )
    chosen = choose(offsets, max(minimum, 2), documents)
    first, last = offsets[chosen], offsets[chosen + 1] - 1  # the separator; the last token, never fed
    count = 1 + np.maximum(0, -(-(last - first - length) // stride))
    owner, turn = _enumerate(count)
    feed_start = first[owner] + turn * stride
    feed_end = np.minimum(feed_start + length, last[owner])
    score_start = np.where(turn == 0, feed_start + 1, feed_start + length - stride + 1)
    return Windows(chosen[owner], feed_start, feed_end, score_start, feed_end + 1)


def last_k(offsets: np.ndarray, length: int, k: int, documents: int | None = None, minimum: int = 0) -> Windows:
    """Disjoint full windows of `length`, the last `k` predictions of each scored (DAPE 2405.14722, k=256).

    The rest of a document that fills no window is not scored: its context would be shorter than what is
    reported.
    """
    if not 1 <= k <= max(length, 1):
        raise DataError(
            f"k={k} must lie between 1 and the length, {length}:\n"
            "a window can score no more tokens than it is fed. Use a smaller k or a longer length."
        )
    full = per_position(offsets, length, documents, minimum)
    return Windows(full.document, full.feed_start, full.feed_end, full.score_end - k, full.score_end)


def per_position(offsets: np.ndarray, length: int, documents: int | None = None, minimum: int = 0) -> Windows:
    """Disjoint full windows of `length`, all scored, to be drawn over their positions (FoX 2503.02130).

    Only full windows, so that every position is scored equally often and on the same documents.
    """
    _check_lengths([length])
    chosen = choose(offsets, max(minimum, length + 1), documents, reserve=1)
    owner, turn = _enumerate((np.diff(offsets)[chosen] - 1) // length)
    feed_start = offsets[chosen][owner] + turn * length
    feed_end = feed_start + length
    return Windows(chosen[owner], feed_start, feed_end, feed_start + 1, feed_end + 1)


def targets_hash(windows: Windows, tokens: np.ndarray) -> str:
    """Hash the set of scored (document, position, token): 16 hexadecimal digits.

    It depends neither on the order of the windows, nor on how the set is divided into windows, nor on the context.
    Two results may be compared if their hashes agree.
    """
    scored = windows[np.flatnonzero(windows.score_end > windows.score_start)]
    order = np.lexsort((scored.score_start, scored.document))
    document, start, end = (a[order] for a in (scored.document, scored.score_start, scored.score_end))
    # Runs of touching or overlapping spans of one document are joined, so that only their union matters.
    reach = np.maximum.accumulate(end)
    first = np.ones(len(start), bool)
    first[1:] = (start[1:] > reach[:-1]) | (document[1:] != document[:-1])
    heads = np.flatnonzero(first)
    tails = np.append(heads[1:], len(start)) - 1 if len(heads) else heads
    digest = hashlib.sha256()
    for d, a, b in zip(document[heads].tolist(), start[heads].tolist(), reach[tails].tolist(), strict=True):
        digest.update(np.array([d, a, b], "<i8").tobytes())
        digest.update(np.asarray(tokens[a:b]).astype("<u4").tobytes())
    return digest.hexdigest()[:16]


def batches(windows: Windows, token_budget: int, rank: int = 0, world: int = 1) -> list[np.ndarray]:
    """Group windows into batches: index arrays of one feed length each, with length * rows <= token_budget or one row.

    Windows are never padded to a common length: a scheme may depend on the length it sees. The longest come
    first, so that memory runs out at once or never. Among these, the ones with the most to score, so that a
    batch is about as many of each window's last tokens. The ranks' shares are disjoint, cover all windows and
    differ by one at most.
    """
    lengths = windows.feed_lengths
    mine = np.lexsort((windows.score_start - windows.feed_start, -lengths))[rank::world]
    if not len(mine):
        return []
    groups = np.split(mine, np.flatnonzero(np.diff(lengths[mine])) + 1)
    result = []
    for group in groups:
        rows = max(1, token_budget // int(lengths[group[0]]))
        result += [group[i : i + rows] for i in range(0, len(group), rows)]
    return result


def gather(windows: Windows, tokens: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets, int64 (len(rows), L), of windows of one feed length; -100 is not scored."""
    batch = windows[rows]
    (length,) = set(batch.feed_lengths.tolist())
    places = batch.feed_start[:, None] + np.arange(length + 1)
    values = np.asarray(tokens)[places].astype(np.int64)
    inputs, targets, predicted = values[:, :-1], values[:, 1:].copy(), places[:, 1:]
    targets[(predicted < batch.score_start[:, None]) | (predicted >= batch.score_end[:, None])] = -100
    return inputs.copy(), targets


def _check_lengths(lengths: Sequence[int]) -> None:
    if not len(lengths) or min(lengths) < 1:
        raise DataError(
            f"lengths={list(lengths)}: every length must be at least 1 token, for example lengths=[128,256]."
        )


def choose(offsets: np.ndarray, minimum: int, documents: int | None, reserve: int = 0) -> np.ndarray:
    """Select up to `documents` documents of at least `minimum` tokens, evenly spread over all such; int64.

    reserve: tokens of `minimum` that are not context, so that the error can name the longest possible length.
    Raises DataError if no document is long enough.
    """
    if documents is not None and documents < 1:
        raise DataError(f"documents={documents}: at least one document is needed; leave it out to use all of them.")
    sizes = np.diff(offsets)
    long_enough = np.flatnonzero(sizes >= minimum)
    if not len(long_enough):
        longest = int(sizes.max(initial=0))
        works = f"Use lengths up to {longest - reserve}, or" if longest > reserve else "Use"
        raise DataError(
            f"No document of this split has {minimum} tokens; the longest of {len(sizes)} has {longest}.\n"
            f"{works} a corpus with longer documents."
        )
    if documents is None or documents >= len(long_enough):
        return long_enough.astype(np.int64)
    return long_enough[np.arange(documents) * len(long_enough) // documents].astype(np.int64)


def _enumerate(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return owners and turns: for counts [2, 3] owners [0, 0, 1, 1, 1] and turns [0, 1, 0, 1, 2]."""
    owner = np.repeat(np.arange(len(count)), count)
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, turn
