"""Training and evaluation in several processes (ranks), started by torchrun.

    torchrun --nproc-per-node 2 train.py ...        or plain `python train.py`, a world of 1

Every function works in a world of 1 without a process group, so the training loop has no branch for it. Messages other
than gradients are JSON or numbers, sent over gloo on the CPU even if NCCL is in use: no pickle, no GPU synchronisation.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .errors import ModelError


@dataclass(frozen=True)
class DistEnv:
    """The place of this process in the world."""

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True on the rank that writes files and prints."""
        return self.rank == 0


def setup(device: str = "auto", timeout: float = 600.0) -> DistEnv:
    """Join the process group of torchrun's environment; without torchrun, a world of 1 and no group.

    device: "auto" (CUDA if available, else the CPU), "cpu", "cuda", "mps".
    timeout: seconds that a rank waits for another one.
    Raises ModelError if the device does not exist.
    """
    kind = _device_kind(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return DistEnv(0, 1, 0, torch.device(kind))
    _exit_with_the_launcher()
    rank, world, local = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    place = torch.device(kind)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise ModelError(
                f"LOCAL_RANK={local}: this machine has {torch.cuda.device_count()} CUDA devices.\n"
                f"Start at most that many processes on it: torchrun --nproc-per-node {torch.cuda.device_count()}"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world, timeout=timedelta(seconds=timeout))
    return DistEnv(rank, world, local, place)


def teardown() -> None:
    """Leave the process group. Not for a `finally`: a failed rank must exit without waiting for the others."""
    if dist.is_initialized():
        # DDP holds a reference to its group. If that were the last one, its destructor would join gloo's thread while
        # holding the interpreter lock, which that thread may wait for: a deadlock at exit (seen in torch 2.13).
        _left_groups.append(dist.group.WORLD)
        dist.destroy_process_group()


_left_groups: list[object] = []


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank calls it."""
    any_rank(False)


def any_rank(flag: bool) -> bool:
    """True on all ranks if `flag` is true on at least one, for example after a signal."""
    return sum_scalars([float(flag)])[0] > 0


def sum_scalars(values: Sequence[float]) -> list[float]:
    """Sum of each value over the ranks, in float64."""
    if not dist.is_initialized():
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return total.tolist()


def max_scalar(value: float) -> float:
    """The largest value over the ranks."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.item()


def sum_tensor(tensor: Tensor) -> None:
    """Sum a CPU tensor over the ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)


def mean_scalars(values: Sequence[float]) -> list[float]:
    return [value / world_size() for value in sum_scalars(values)]


def broadcast_object(value: Any, source: int = 0) -> Any:
    """The JSON-serialisable `value` of rank `source`, on every rank. Tuples become lists."""
    if not dist.is_initialized():
        return value
    payload = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor(len(payload))
    dist.broadcast(size, source)
    if rank() != source:
        payload = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(payload, source)
    return json.loads(payload.numpy().tobytes())


def gather_tensors(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The CPU tensors of every rank, by rank. Names, shapes and dtypes must be the same on all ranks."""
    if not dist.is_initialized():
        return [tensors]
    gathered: list[dict[str, Tensor]] = [{} for _ in range(world_size())]
    for name in sorted(tensors):
        parts = [torch.empty_like(tensors[name]) for _ in gathered]
        dist.all_gather(parts, tensors[name])
        for of_rank, part in zip(gathered, parts, strict=True):
            of_rank[name] = part
    return gathered


def require_same(what: str, value: object) -> None:
    """Raises RuntimeError on every rank unless all have the same JSON-serialisable `value`. what: its description."""
    expected = broadcast_object(value)
    own = json.loads(json.dumps(value))
    if any_rank(expected != own):
        raise RuntimeError(f"{what}: rank 0 has {expected!r}, rank {rank()} has {own!r}; ranks must agree.")


def wrap(model: nn.Module, ranks: DistEnv, kind: str = "ddp") -> nn.Module:
    """A model whose backward pass averages gradients over the ranks; `model` itself in a world of 1.

    "ddp"   every rank holds all parameters; the result is a wrapper, and `model` keeps its parameters
    "fsdp"  every rank holds a shard of each of model.layers and of the rest; `model` is changed in place. Build the
            optimizer afterwards. Every call of the model is a collective operation.
    """
    if kind not in WRAPPERS:
        raise ModelError(f"data_parallel={kind}: expected one of {', '.join(WRAPPERS)}.")
    return model if ranks.world == 1 else WRAPPERS[kind](model, ranks)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DDP and torch.compile."""
    while True:
        inner = model.module if isinstance(model, DistributedDataParallel) else getattr(model, "_orig_mod", None)
        if inner is None:
            return model
        model = inner


def accumulate(model: nn.Module, last: bool) -> AbstractContextManager:
    """The context of forward and backward of one micro-batch: gradients are exchanged only after the `last`."""
    set_gradient_sync = getattr(model, "set_requires_gradient_sync", None)  # FSDP
    if set_gradient_sync is not None:
        set_gradient_sync(last)
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def is_sharded(model: nn.Module) -> bool:
    """True if FSDP shards the parameters over the ranks."""
    return any(hasattr(p, "full_tensor") for p in model.parameters())


def full_tensor(tensor: Tensor) -> Tensor:
    """The unsharded tensor of an FSDP shard; other tensors unchanged. Collective."""
    gather = getattr(
        tensor, "full_tensor", None
    )  # of a DTensor; importing its module takes a second that few runs need
    return tensor if gather is None else gather()


def shard_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """An unsharded `tensor` on the device of `reference`; under FSDP, this rank's shard of it."""
    placed = tensor.to(reference.device)
    mesh, placements = getattr(reference, "device_mesh", None), getattr(reference, "placements", None)
    if mesh is None:
        return placed
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(placed, mesh, placements, src_data_rank=None)


def _ddp(model: nn.Module, ranks: DistEnv) -> nn.Module:
    devices = [ranks.local_rank] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, devices, forward_sync_buffers=False, gradient_as_bucket_view=True)


def _fsdp(model: nn.Module, ranks: DistEnv) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    scalars = [name for name, p in model.named_parameters() if p.ndim == 0]
    if scalars:
        raise ModelError(
            f"data_parallel=fsdp: {', '.join(scalars)} cannot be sharded, having no dimension.\nTry data_parallel=ddp"
        )
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    marks = {name: dict(vars(p)) for name, p in model.named_parameters()}
    for layer in getattr(model, "layers", []):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for (
        name,
        p,
    ) in model.named_parameters():  # sharding replaces the parameters, and with them attributes such as `no_decay`
        vars(p).update(marks[name])
    for method in ("loss", "nll", "nll_and_correct", "last_logits"):  # entry points other than `forward`
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)
    return model


WRAPPERS = {"ddp": _ddp, "fsdp": _fsdp}


def _device_kind(device: str) -> str:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if present["cuda"] else "cpu"
    if device not in present:
        raise ModelError(f"device={device}: expected one of auto, {', '.join(present)}.")
    if not present[device]:
        raise ModelError(
            f"device={device}: {_why_missing(device)}.\nUse device=auto: CUDA if there is any, else the CPU."
        )
    return device


def _why_missing(device: str) -> str:
    if device == "mps":
        return "torch finds no Apple GPU on this machine"
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch was built without CUDA; install one that has it (pytorch.org, Get started)"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    return "torch finds no GPU on this machine; `nvidia-smi` shows whether the driver does"


def _exit_with_the_launcher() -> None:
    """Let the kernel send SIGTERM to this rank when torchrun exits. A torchrun that is killed, or receives a signal
    outside --signals-to-handle, would leave its ranks running."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGTERM))


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise ModelError(f"{name}={value!r} in the environment: expected a number.\nStart several ranks with torchrun")
    return int(value)
