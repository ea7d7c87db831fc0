"""Several processes as one: what `torchrun` starts becomes ranks that agree.

    torchrun --nproc-per-node 2 train.py ...        or plain `python train.py`, which is a world of 1

Every function works in a world of 1 without a process group, so the training loop has no branch for it. Messages that
are not gradients travel as JSON or numbers over gloo on the CPU, also beside NCCL: no pickle, no GPU synchronisation.
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
    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """The rank that writes files and prints."""
        return self.rank == 0


def setup(device: str = "auto", timeout: float = 600.0) -> DistEnv:
    """Join the process group that torchrun's environment describes; without torchrun a world of 1 and no group.

    device: "auto" (CUDA if there is any, else the CPU), "cpu", "cuda", "mps".
    timeout: seconds after which a rank that waits for one that hangs gives up.
    """
    kind = _device_kind(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return DistEnv(0, 1, 0, torch.device(kind))
    _stop_with_the_launcher()
    rank, world, local = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    where = torch.device(kind)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise ModelError(
                f"LOCAL_RANK={local}: this machine has {torch.cuda.device_count()} CUDA devices.\n"
                f"Start at most that many processes on it: torchrun --nproc-per-node {torch.cuda.device_count()}"
            )
        where = torch.device("cuda", local)
        torch.cuda.set_device(where)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world, timeout=timedelta(seconds=timeout))
    return DistEnv(rank, world, local, where)


def teardown() -> None:
    """Leave the process group. Not in a `finally`: a rank that failed must die, not wait here for the others."""
    if dist.is_initialized():
        # DDP keeps its group alive. If it were the last to let go, it would join gloo's thread while holding the
        # interpreter lock, which that thread may be waiting for: a deadlock at the end of a run (seen in torch 2.13).
        _left_groups.append(dist.group.WORLD)
        dist.destroy_process_group()


_left_groups: list[object] = []


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank is here."""
    any_rank(False)


def any_rank(flag: bool) -> bool:
    """True on all ranks if `flag` is true on at least one: a signal, a loss that is not finite."""
    return sum_scalars([float(flag)])[0] > 0


def sum_scalars(values: Sequence[float]) -> list[float]:
    """Sum of each value over the ranks, in float64."""
    if not dist.is_initialized():
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return total.tolist()


def max_scalar(value: float) -> float:
    """The largest value of any rank."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.item()


def sum_tensor(tensor: Tensor) -> None:
    """Add up a CPU tensor over the ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)


def mean_scalars(values: Sequence[float]) -> list[float]:
    return [value / world_size() for value in sum_scalars(values)]


def broadcast_object(value: Any, source: int = 0) -> Any:
    """The `value` of rank `source`, which must be JSON-able, on every rank. (Tuples come back as lists.)"""
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
    """The CPU tensors of every rank, by rank; names, shapes and dtypes must be the same on all of them."""
    if not dist.is_initialized():
        return [tensors]
    gathered: list[dict[str, Tensor]] = [{} for _ in range(world_size())]
    for name in sorted(tensors):
        parts = [torch.empty_like(tensors[name]) for _ in gathered]
        dist.all_gather(parts, tensors[name])
        for mine, part in zip(gathered, parts, strict=True):
            mine[name] = part
    return gathered


def require_same(what: str, value: object) -> None:
    """RuntimeError on every rank unless all have the same JSON-able `value`, say the step that they resume from."""
    first = broadcast_object(value)
    mine = json.loads(json.dumps(value))
    if any_rank(first != mine):
        raise RuntimeError(f"{what}: rank 0 has {first!r}, rank {rank()} has {mine!r}; ranks must agree.")


def wrap(model: nn.Module, ranks: DistEnv, kind: str = "ddp") -> nn.Module:
    """The model whose backward averages gradients over the ranks. In a world of 1 it is the model itself.

    "ddp"   every rank holds the whole model; the result is a wrapper, `model` keeps its parameters
    "fsdp"  every rank holds a shard of each of model.layers and of the rest; `model` itself is changed. Build the
            optimizer after it. Every call of the model is then a collective one.
    """
    if kind not in WRAPPERS:
        raise ModelError(f"parallel={kind}: unknown. Known: {', '.join(WRAPPERS)}.")
    return model if ranks.world == 1 else WRAPPERS[kind](model, ranks)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DDP and torch.compile."""
    while True:
        inner = model.module if isinstance(model, DistributedDataParallel) else getattr(model, "_orig_mod", None)
        if inner is None:
            return model
        model = inner


def accumulate(model: nn.Module, last: bool) -> AbstractContextManager:
    """Around forward and backward of one of several micro-batches: gradients are exchanged only after the `last`."""
    exchange = getattr(model, "set_requires_gradient_sync", None)  # FSDP
    if exchange is not None:
        exchange(last)
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP gave each rank a part of the parameters."""
    return any(hasattr(p, "full_tensor") for p in model.parameters())


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which FSDP gave this rank a shard; other tensors as they are. Collective."""
    gather = getattr(tensor, "full_tensor", None)  # a DTensor's; to import its module costs a second that few runs need
    return tensor if gather is None else gather()


def shard_like(tensor: Tensor, reference: Tensor) -> Tensor:
    """A whole `tensor` placed as `reference` is: on its device, and under FSDP this rank's shard of it."""
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
            f"parallel=fsdp: {', '.join(scalars)} cannot be sharded, having no dimension. Use parallel=ddp."
        )
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    marks = {name: dict(vars(p)) for name, p in model.named_parameters()}
    for layer in getattr(model, "layers", []):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name, p in model.named_parameters():  # sharding makes new parameters, which would forget `no_decay`
        vars(p).update(marks[name])
    for method in ("loss", "nll", "nll_and_correct", "last_logits"):  # ways into the model other than calling it
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)
    return model


WRAPPERS = {"ddp": _ddp, "fsdp": _fsdp}


def _device_kind(device: str) -> str:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if present["cuda"] else "cpu"
    if device not in present:
        raise ModelError(f"device={device}: unknown. Known: auto, {', '.join(present)}.")
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


def _stop_with_the_launcher() -> None:
    """Let the kernel send SIGTERM when torchrun is gone. Killed, or hit by a signal that it was not told to handle
    (--signals-to-handle), it would leave its ranks running."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGTERM))


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdigit():
        raise ModelError(f"{name}={value!r} in the environment: a number is needed. Start several ranks with torchrun.")
    return int(value)
