"""The loader: every window once, whoever shares the batch and wherever a run resumes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.loader import Batches
from longrun.base.errors import DataError

sizes = st.integers(1, 7).flatmap(lambda length: st.tuples(st.just(length), st.integers(length + 1, 300)))


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 9), st.integers(-5, 2**40))
def test_every_window_of_an_epoch_is_visited_once(size, batch, seed):
    length, count = size
    batches = Batches(np.arange(count, dtype=np.uint16), length, batch, seed)
    windows = batches.windows_per_epoch
    steps = -(-3 * windows // batch)  # into the third epoch at least
    ids = np.concatenate([batches.sample_ids(step) for step in range(steps)])
    starts = np.concatenate([batches.starts(step) for step in range(steps)])
    for epoch in range(3):
        visited = slice(epoch * windows, (epoch + 1) * windows)
        assert sorted(ids[visited] - epoch * windows) == list(range(windows))
        ordered = np.sort(starts[visited])
        assert (np.diff(ordered) == length).all()
        assert 0 <= ordered[0] < length
        assert ordered[-1] + length + 1 <= count
        assert count - (ordered[-1] + length + 1) < 2 * length  # no more than two windows are left out


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 4), st.sampled_from([1, 2, 3, 4]), st.integers(0, 50), st.integers(0, 99))
def test_ranks_share_a_global_batch_that_does_not_depend_on_them(size, rows, world, step, seed):
    length, count = size
    tokens = np.arange(count, dtype=np.uint16)
    whole_inputs, whole_targets = Batches(tokens, length, rows * world, seed).batch(step)
    fresh = Batches(tokens, length, rows * world, seed)  # a resumed process: no step before this one was asked for
    for rank in range(world):
        inputs, targets = fresh.batch(step, rank, world)
        assert inputs.shape == targets.shape == (rows, length)
        assert torch.equal(inputs, whole_inputs[rank::world])
        assert torch.equal(targets, whole_targets[rank::world])
    ids = [fresh.sample_ids(step, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(ids).tolist()) == sorted(fresh.sample_ids(step).tolist())


def test_rows_are_slices_of_the_stream_shifted_by_one():
    tokens = np.random.default_rng(0).integers(0, 70_000, 500, dtype=np.uint32)
    batches = Batches(tokens, 16, 4, seed=1)
    inputs, targets = batches.batch(7)
    assert inputs.dtype == targets.dtype == torch.int64
    for row, start in enumerate(batches.starts(7)):
        assert inputs[row].tolist() == tokens[start : start + 16].tolist()
        assert targets[row].tolist() == tokens[start + 1 : start + 17].tolist()


def test_seeds_and_epochs_give_different_orders_and_every_offset_occurs():
    tokens = np.zeros(1000, np.uint16)
    orders = {tuple(Batches(tokens, 10, 98, seed).sample_ids(0).tolist()) for seed in range(20)}
    assert len(orders) == 20
    one = Batches(tokens, 10, 99, 0)
    assert one.windows_per_epoch == 99
    assert len({tuple(one.sample_ids(epoch) % 99) for epoch in range(20)}) == 20
    assert {int(one.starts(epoch).min()) for epoch in range(200)} == set(range(10))


def test_all_orders_of_three_windows_are_about_equally_frequent():
    tokens = np.zeros(9, np.uint16)
    orders = [tuple(Batches(tokens, 2, 3, seed).sample_ids(0).tolist()) for seed in range(600)]
    for order in itertools.permutations(range(3)):
        assert 60 < orders.count(order) < 140  # 100 expected, four standard deviations are 37


def test_the_order_is_part_of_what_a_seed_means():
    """Written out: a change here makes old runs impossible to resume, and is announced under Numbers."""
    batches = Batches(np.zeros(4000, np.uint16), 32, 8, seed=3)
    assert batches.sample_ids(2).tolist() == [61, 101, 16, 109, 52, 53, 54, 28]
    assert batches.starts(2).tolist() == [1953, 3233, 513, 3489, 1665, 1697, 1729, 897]


def test_bad_sizes_are_refused_with_what_would_work():
    tokens = np.zeros(64, np.uint16)
    with pytest.raises(DataError, match=r"(?s)train.length=64 needs 65 tokens.*has 64.*train.length=63"):
        Batches(tokens, 64, 1, 0)
    Batches(tokens, 63, 1, 0)
    with pytest.raises(DataError, match="at least 1"):
        Batches(tokens, 0, 1, 0)
    with pytest.raises(DataError, match=r"(?s)train.batch=6 .* 4 processes.*such as 8"):
        Batches(tokens, 8, 6, 0).batch(0, rank=0, world=4)
