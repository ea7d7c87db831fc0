"""The next batch, made while the present one is computed with.

Batches stay a pure function of (seed, step): a thread is only asked for the one that will be wanted next. Whoever asks
for another gets that one, so a run resumes, and its data come in the same order, as without it.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from .dataset import Batches

Pair = tuple[torch.Tensor, torch.Tensor]


class Prefetch:
    """`batches` with the same method `batch`, one step ahead. Errors are raised where the batch is asked for.

    device: for CUDA the batch lies in pinned memory, from where it is copied without anybody waiting.
    """

    def __init__(self, batches: Batches, device: torch.device):
        self.batches, self.pin = batches, device.type == "cuda"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._ahead: tuple[tuple[int, int, int], Future[Pair]] | None = None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Pair:
        """Inputs and targets of one step, int64 (rows of this rank, length)."""
        wanted, ahead = (step, rank, world), self._ahead
        found = ahead[1].result() if ahead is not None and ahead[0] == wanted else self._made(*wanted)
        self._ahead = (step + 1, rank, world), self._thread.submit(self._made, step + 1, rank, world)
        return found

    def _made(self, step: int, rank: int, world: int) -> Pair:
        inputs, targets = self.batches.batch(step, rank, world)
        return (inputs.pin_memory(), targets.pin_memory()) if self.pin else (inputs, targets)
