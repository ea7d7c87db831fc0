"""Batches made in the background: the same ones, whatever is asked for and in whichever order."""

import threading

import numpy as np
import pytest
import torch

from data.loader import Batches
from data.prefetch import Prefetch
from longrun.base.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture
def batches() -> Batches:
    return Batches(np.arange(1000, dtype=np.uint16), length=8, batch=4, seed=3)


def same(one: tuple[torch.Tensor, torch.Tensor], two: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_the_order_of_asking_changes_nothing(batches: Batches):
    """In a row, again, backwards, from the middle as a resumed run does, and for other ranks."""
    ahead = Prefetch(batches, CPU)
    for step in (0, 1, 2, 2, 1, 500, 501, 0):
        assert same(ahead.batch(step), batches.batch(step))
    for wanted in ((7, 0, 2), (8, 1, 2), (9, 1, 2), (9, 0, 4)):
        assert same(ahead.batch(*wanted), batches.batch(*wanted))


def test_the_next_batch_is_made_by_another_thread_while_nobody_waits(batches: Batches):
    made: dict[int, str] = {}
    done = threading.Event()

    class Noted:
        def batch(self, step: int, rank: int = 0, world: int = 1):
            made[step] = threading.current_thread().name
            if step == 1:
                done.set()
            return batches.batch(step, rank, world)

    ahead = Prefetch(Noted(), CPU)
    ahead.batch(0)
    assert done.wait(10)  # step 1 is there although nobody has asked for it
    ahead.batch(1)
    assert made[0] == threading.current_thread().name
    assert made[1].startswith("batches")
    assert sum(step == 1 for step in made) == 1


def test_an_error_is_raised_where_the_batch_is_asked_for(batches: Batches):
    ahead = Prefetch(batches, CPU)
    with pytest.raises(DataError, match="cannot be shared"):
        ahead.batch(0, 0, 3)

    class Late:
        def batch(self, step: int, rank: int = 0, world: int = 1):
            if step == 1:
                raise DataError("the file is gone")
            return batches.batch(step, rank, world)

    ahead = Prefetch(Late(), CPU)
    ahead.batch(0)
    with pytest.raises(DataError, match="gone"):
        ahead.batch(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_batch_lies_in_pinned_memory(batches: Batches):
    inputs, targets = Prefetch(batches, torch.device("cuda")).batch(0)
    assert inputs.is_pinned()
    assert targets.is_pinned()
