"""Prefetching of the next batch in a thread while the current one is used.

Batches stay a pure function of (seed, step): the thread only computes the batch of the next step early. A request for
another step computes that one, so runs resume, and their data keep the order, as without prefetching.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from .dataset import Batches

Pair = tuple[torch.Tensor, torch.Tensor]


class Prefetch:
    """`batches`, computed one step ahead. An error is raised by the call of `batch` for its step.

    device: for CUDA the batch is in pinned memory, for asynchronous copies.
    """

    def __init__(self, batches: Batches, device: torch.device):
        self.batches, self.pin = batches, device.type == "cuda"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._ahead: tuple[tuple[int, int, int], Future[Pair]] | None = None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Pair:
        """Return inputs and targets of one step, int64 (rows of this rank, length)."""
        key, ahead = (step, rank, world), self._ahead
        batch = ahead[1].result() if ahead is not None and ahead[0] == key else self._compute(*key)
        self._ahead = (step + 1, rank, world), self._thread.submit(self._compute, step + 1, rank, world)
        return batch

    def _compute(self, step: int, rank: int, world: int) -> Pair:
        inputs, targets = self.batches.batch(step, rank, world)
        return (inputs.pin_memory(), targets.pin_memory()) if self.pin else (inputs, targets)
