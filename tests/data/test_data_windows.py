"""Evaluation protocols against loops written from their definitions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.windows import (
    Windows,
    batches,
    fixed_targets,
    gather,
    last_k,
    nonoverlap,
    per_position,
    sliding,
    targets_hash,
)
from longrun.base.errors import DataError

# Sizes of documents in tokens, separator included; a document of one token has an empty text.
corpora = st.lists(st.integers(1, 40), min_size=1, max_size=8).filter(lambda sizes: max(sizes) >= 2)
few = settings(max_examples=80, deadline=None)


def offsets_of(sizes) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def tokens_of(offsets) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, offsets[-1]).astype(np.uint16)


def contexts(windows: Windows) -> list[tuple[int, int]]:
    """(place of the target, number of tokens in front of it that are fed), one for each scored target."""
    spans = zip(windows.feed_start.tolist(), windows.score_start.tolist(), windows.score_end.tolist(), strict=True)
    return [(place, place - feed) for feed, start, end in spans for place in range(start, end)]


def all_targets(offsets) -> list[int]:
    return [t for a, b in pairwise(offsets.tolist()) for t in range(a + 1, b)]


def assert_lawful(windows: Windows, offsets) -> None:
    """Inside one document, the separator never a target, and only predictions that the fed tokens make."""
    assert len(windows) > 0
    assert all(getattr(windows, name).dtype == np.int64 for name in Windows.__dataclass_fields__)
    assert (windows.feed_start >= offsets[windows.document]).all()
    assert (windows.feed_end < offsets[windows.document + 1]).all()  # the last token is never fed
    assert (windows.feed_start < windows.score_start).all()
    assert (windows.score_start < windows.score_end).all()
    assert (windows.score_end <= windows.feed_end + 1).all()


@few
@given(corpora, st.integers(1, 50))
def test_nonoverlap_scores_every_token_once_from_its_window(sizes, length):
    offsets = offsets_of(sizes)
    expected = []
    for a, b in pairwise(offsets.tolist()):
        expected += [(t, (t - a - 1) % length + 1) for t in range(a + 1, b)]
    windows = nonoverlap(offsets, length)
    assert_lawful(windows, offsets)
    assert contexts(windows) == expected
    assert windows.feed_lengths.max() <= length


@few
@given(corpora, st.integers(1, 50), st.data())
def test_sliding_against_a_loop(sizes, length, draw):
    stride = draw.draw(st.integers(1, length))
    offsets = offsets_of(sizes)
    expected = []
    for a, b in pairwise(offsets.tolist()):
        begin, scored = a, a  # scored: the last target that is done
        while scored < b - 1:
            reach = min(begin + length, b - 1)
            expected += [(t, t - begin) for t in range(scored + 1, reach + 1)]
            scored, begin = reach, begin + stride
    windows = sliding(offsets, length, stride)
    assert_lawful(windows, offsets)
    assert contexts(windows) == expected
    assert sorted(t for t, _ in expected) == all_targets(offsets)


@few
@given(corpora, st.integers(1, 50))
def test_sliding_by_a_whole_window_is_nonoverlap(sizes, length):
    offsets = offsets_of(sizes)
    assert contexts(sliding(offsets, length, length)) == contexts(nonoverlap(offsets, length))


@few
@given(corpora, st.integers(1, 50))
def test_sliding_by_one_gives_every_token_all_the_context_that_fits(sizes, length):
    offsets = offsets_of(sizes)
    expected = []
    for a, b in pairwise(offsets.tolist()):
        expected += [(t, min(t - a, length)) for t in range(a + 1, b)]
    assert contexts(sliding(offsets, length, 1)) == expected


@few
@given(corpora, st.integers(1, 12), st.data())
def test_last_k_and_per_position_use_full_windows_only(sizes, length, draw):
    offsets = offsets_of(sizes)
    k = draw.draw(st.integers(1, length))
    if max(sizes) < length + 1:
        for protocol in (lambda: last_k(offsets, length, k), lambda: per_position(offsets, length)):
            with pytest.raises(DataError, match="No document"):
                protocol()
        return
    expected = []
    for a, b in pairwise(offsets.tolist()):
        expected += range(a, b - length, length)
    curve, tail = per_position(offsets, length), last_k(offsets, length, k)
    for windows in (curve, tail):
        assert_lawful(windows, offsets)
        assert windows.feed_start.tolist() == expected
        assert (windows.feed_lengths == length).all()
    assert contexts(curve) == [(begin + i, i) for begin in expected for i in range(1, length + 1)]
    assert contexts(tail) == [(begin + i, i) for begin in expected for i in range(length - k + 1, length + 1)]


@few
@given(corpora, st.lists(st.integers(1, 20), min_size=1, max_size=4), st.data())
def test_fixed_targets_scores_the_same_tokens_at_every_length(sizes, lengths, draw):
    offsets = offsets_of(sizes)
    k = draw.draw(st.integers(1, min(lengths)))
    documents, blocks = draw.draw(st.none() | st.integers(1, 9)), draw.draw(st.integers(1, 5))
    enough = [i for i, size in enumerate(sizes) if size >= max(lengths) + k]
    if not enough:
        with pytest.raises(DataError, match="No document"):
            fixed_targets(offsets, lengths, k, documents, blocks)
        return
    made = fixed_targets(offsets, lengths, k, documents, blocks)
    longest = made[max(lengths)]
    for length, windows in made.items():
        assert_lawful(windows, offsets)
        assert (windows.feed_lengths == length).all()
        assert (windows.score_end - windows.score_start == k).all()
        assert (windows.feed_end + 1 == windows.score_end).all()  # the fed tokens end at the block
        assert windows.score_start.tolist() == longest.score_start.tolist()
        assert windows.document.tolist() == longest.document.tolist()
    chosen = sorted(set(longest.document.tolist()))
    assert set(chosen) <= set(enough)
    assert len(chosen) == min(len(enough), documents or len(enough))
    targets = [t for t, _ in contexts(longest)]
    assert len(targets) == len(set(targets))  # blocks do not overlap
    assert (longest.score_start >= offsets[longest.document] + max(lengths)).all()
    for i in chosen:
        fits = (sizes[i] - max(lengths)) // k
        assert (longest.document == i).sum() == min(blocks, fits)
    # The set is a function of the longest length and the options.
    again = fixed_targets(offsets, [max(lengths)], k, documents, blocks)[max(lengths)]
    assert again.score_start.tolist() == longest.score_start.tolist()


def test_fixed_targets_written_out():
    # Document 1: separator at 100, text up to 199. A context of 40 leaves 140..199 to blocks of 10:
    # two shares of 30, with the blocks in the middle.
    offsets = np.array([0, 100, 200])
    short, long = fixed_targets(offsets, [20, 40], 10, documents=None, blocks=2).values()
    assert long.document.tolist() == [0, 0, 1, 1]
    assert long.score_start.tolist() == [50, 80, 150, 180]
    assert long.score_end.tolist() == [60, 90, 160, 190]
    assert long.feed_start.tolist() == [19, 49, 119, 149]
    assert long.feed_end.tolist() == [59, 89, 159, 189]
    assert short.feed_start.tolist() == [39, 69, 139, 169]
    assert short.feed_end.tolist() == long.feed_end.tolist()


def test_documents_are_chosen_evenly_and_short_ones_left_out():
    offsets = offsets_of([50, 5] * 10)
    windows = nonoverlap(offsets, 8, documents=5, minimum=50)
    assert sorted(set(windows.document.tolist())) == [0, 4, 8, 12, 16]
    assert nonoverlap(offsets, 8).targets == 10 * 49 + 10 * 4


def test_the_targets_hash_knows_the_set_and_nothing_else():
    offsets = offsets_of([30, 1, 60, 45])
    tokens = tokens_of(offsets)
    made = fixed_targets(offsets, [8, 16, 32], 4, blocks=3)
    name = targets_hash(made[8], tokens)
    assert len(name) == 16
    assert name == targets_hash(made[16], tokens) == targets_hash(made[32], tokens)
    whole = targets_hash(nonoverlap(offsets, 7), tokens)
    assert whole == targets_hash(sliding(offsets, 20, 3), tokens) != name
    shuffled = nonoverlap(offsets, 7)[np.random.default_rng(1).permutation(len(nonoverlap(offsets, 7)))]
    assert targets_hash(shuffled, tokens) == whole
    other = tokens.copy()
    other[offsets[2] + 40] += 1
    assert targets_hash(nonoverlap(offsets, 7), other) != whole
    assert targets_hash(last_k(offsets, 8, 3), tokens) != targets_hash(last_k(offsets, 8, 4), tokens)
    other = tokens.copy()
    other[offsets[2]] += 1  # a separator is no target
    assert targets_hash(nonoverlap(offsets, 7), other) == whole


@few
@given(corpora, st.integers(1, 20), st.integers(1, 100), st.integers(1, 5))
def test_batches_cover_all_windows_once_within_the_budget(sizes, length, budget, world):
    windows = nonoverlap(offsets_of(sizes), length)
    shares = [batches(windows, budget, rank, world) for rank in range(world)]
    lengths = windows.feed_lengths
    for batch in (batch for share in shares for batch in share):
        assert len(set(lengths[batch].tolist())) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget
    counts = [sum(len(batch) for batch in share) for share in shares]
    assert max(counts) - min(counts) <= 1
    assert sorted(i for share in shares for batch in share for i in batch.tolist()) == list(range(len(windows)))
    if world == 1:
        order = [int(lengths[batch[0]]) for batch in shares[0]]
        assert order == sorted(order, reverse=True)


def test_batches_are_as_large_as_the_budget_allows():
    windows = per_position(offsets_of([33]), 4)
    assert [batch.tolist() for batch in batches(windows, 13)] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_windows_that_score_as_much_share_a_batch():
    """Where all but the last few tokens have nothing to score, the last layer computes those few alone."""
    windows = sliding(offsets_of([25, 25]), 8, 4)
    scored = windows.score_end - windows.score_start
    assert [scored[batch].tolist() for batch in batches(windows, 20)][:2] == [[8, 8], [4, 4]]


@few
@given(corpora, st.integers(1, 12), st.data())
def test_gather_feeds_and_scores_what_the_window_says(sizes, length, draw):
    offsets = offsets_of(sizes)
    tokens = tokens_of(offsets)
    windows = sliding(offsets, length, draw.draw(st.integers(1, length)))
    for rows in batches(windows, 30):
        inputs, targets = gather(windows, tokens, rows)
        assert inputs.dtype == targets.dtype == np.int64
        for i, row in enumerate(rows):
            feed = range(windows.feed_start[row], windows.feed_end[row])
            scored = range(windows.score_start[row], windows.score_end[row])
            assert inputs[i].tolist() == [int(tokens[j]) for j in feed]
            assert targets[i].tolist() == [int(tokens[j + 1]) if j + 1 in scored else -100 for j in feed]


def test_gather_scores_a_span_in_the_middle_of_a_window():
    tokens = np.arange(10, dtype=np.uint16)
    windows = Windows(*(np.array([value]) for value in (0, 2, 8, 4, 6)))
    inputs, targets = gather(windows, tokens, np.array([0]))
    assert inputs.tolist() == [[2, 3, 4, 5, 6, 7]]
    assert targets.tolist() == [[-100, 4, 5, -100, -100, -100]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: fixed_targets(o, [8, 64], 8), r"(?s)has 72 tokens.*of 3 has 60.*lengths up to 52"),
        (lambda o: fixed_targets(o, [4, 8], 5), "targets=5 must lie between 1 and the shortest length, 4"),
        (lambda o: fixed_targets(o, [4, 8], 0), "targets=0"),
        (lambda o: fixed_targets(o, [], 1), "lengths="),
        (lambda o: fixed_targets(o, [8], 1, blocks=0), "blocks=0"),
        (lambda o: fixed_targets(o, [8], 1, documents=0), "documents=0"),
        (lambda o: sliding(o, 8, 9), r"stride=9 must lie between 1 and the length, 8"),
        (lambda o: sliding(o, 8, 0), "stride=0"),
        (lambda o: nonoverlap(o, 0), "at least 1 token"),
        (lambda o: last_k(o, 8, 9), r"k=9 must lie between 1 and the length, 8"),
        (lambda o: last_k(o, 0, 1), "at least 1 token"),
        (lambda o: per_position(o, 60), r"(?s)has 61 tokens.*has 60.*lengths up to 59"),
        (lambda o: nonoverlap(np.array([0]), 4), "the longest of 0 has 0"),
    ],
)
def test_refusals_say_what_would_work(call, message):
    with pytest.raises(DataError, match=message) as raised:
        call(offsets_of([60, 3, 20]))
    assert 2 <= len(str(raised.value).splitlines()) <= 3 or "at least" in str(raised.value)
