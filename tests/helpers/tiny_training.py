"""A network with every kind of tensor a checkpoint meets, a training loop for it, and processes to run it in."""

import multiprocessing
import os
import random
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import files as checkpoint

VOCABULARY, WIDTH = 23, 16

# Children start from a process that has imported once what is slow (an optimizer imports dynamo) and computed nothing.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pytest", "torch", "torch._dynamo", "torch.distributed.fsdp", "safetensors.torch"])


class Net(nn.Module):
    """Tied weights, norms, biases, dropout, a buffer, a vector that wants no decay, and layers to shard."""

    def __init__(self, seed: int = 0, layers: int = 2):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        self.slopes = nn.Parameter(torch.rand(2, WIDTH))
        self.slopes.no_decay = True
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def output_weight(self) -> Tensor:
        return self.head.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens) * self.slopes[0] + self.slopes[1]
        for layer in self.layers:
            x = x + F.dropout(F.gelu(layer(x)), 0.2, self.training)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def batch(step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
    """This rank's rows of the batch of `step`: (8 / world, 6) tokens and targets."""
    tokens = torch.randint(VOCABULARY, (8, 7), generator=torch.Generator().manual_seed(step))
    rows = tokens.chunk(world)[rank]
    return rows[:, :-1], rows[:, 1:]


def train(model: nn.Module, optimizer, steps: range, rank: int = 0, world: int = 1) -> list[float]:
    losses = []
    for step in steps:
        loss = model(*batch(step, rank, world))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def restore(path: Path, model: nn.Module, optimizer=None, rank: int = 0) -> checkpoint.Checkpoint:
    """What a resuming run does: find, verify, then apply."""
    found = checkpoint.newest(path)
    checkpoint.load_model(found, model)
    if optimizer is not None:
        checkpoint.load_optimizer(found, model, optimizer)
        checkpoint.load_rng(found, rank)
    return found


def draws() -> list[float]:
    """One number from each generator that a checkpoint keeps."""
    import numpy as np

    return [torch.rand(()).item(), random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]  # noqa: NPY002


def run_ranks(function: Callable, *arguments, world: int = 2, seconds: float = 60) -> list:
    """`function(*arguments)` in `world` processes with torchrun's environment; their results by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ends, children = [], []
    for rank in range(world):
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=_rank, args=(theirs, rank, world, port, function, arguments), daemon=True)
        child.start()
        theirs.close()
        ends.append(ours)
        children.append(child)
    results = []
    try:
        for rank, end in enumerate(ends):
            assert end.poll(seconds), f"rank {rank} of {world} hangs"
            good, result = end.recv()
            assert good, f"rank {rank}: {result}"
            results.append(result)
    finally:
        for child in children:
            child.join(0 if len(results) < world else 10)
            child.kill()
    return results


def _rank(pipe, rank: int, world: int, port: int, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        pipe.send((True, function(*arguments)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))
