"""Checks of the machine and of run folders, as a sequence of findings."""

import importlib.metadata
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.corpus import default_cache
from longrun.runs import metrics
from longrun.runs.environment import PACKAGES, ROOT, commit, installed, processor
from longrun.runs.run_folder import RunFolder
from model.checkpoint import atomic_dir
from model.errors import ModelError

GOOD, NOTE, BROKEN = "ok", "note", "BROKEN"
SERVER_TIMEOUT = 3.0  # seconds
ENOUGH_SPACE = 2 * 10**9  # bytes; a small model's checkpoints and a tokenised corpus need less
SERVERS = {  # name -> (environment variable, default address, purpose)
    "wandb": ("WANDB_BASE_URL", "https://api.wandb.ai", "tracker=online"),
    "hub": ("HF_ENDPOINT", "https://huggingface.co", "data sets and models of the hub"),
}


@dataclass(frozen=True)
class Check:
    subject: str
    state: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<7} {self.subject:<12} {self.text}"


def checks(runs: list[Path], network: bool) -> Iterator[Check]:
    for run in runs:
        yield from run_folder(run)
    yield from packages()
    yield from devices()
    yield free_space("disk", Path.cwd())
    yield free_space("cache", default_cache())
    for name in SERVERS if network else ():
        yield server(name)


def run_folder(path: Path) -> Iterator[Check]:
    """The state of a run, each of its checkpoints verified against its manifest, and its metrics."""
    run = RunFolder(path)
    if not run.started:
        yield Check("run", BROKEN, f"{path}: no config.yaml, so this is not a run folder")
        return
    yield Check("run", GOOD, f"{path}: {'finished' if run.finished else 'not finished'}")
    checkpoints = atomic_dir.list_checkpoints(path / "checkpoints")
    verified = [_checkpoint(step, checkpoint) for step, checkpoint in checkpoints.items()]
    yield from verified
    if not checkpoints:
        yield Check("checkpoint", NOTE, f"{path} has none yet")
    elif all(check.state == BROKEN for check in verified):
        yield Check("checkpoint", BROKEN, f"none of {path} can be continued or measured")
    yield metrics_file(path / "metrics.jsonl")


def _checkpoint(step: int, path: Path) -> Check:
    try:
        files = atomic_dir.verify(path)["files"]
    except ModelError as error:
        return Check("checkpoint", BROKEN, str(error))
    size = format_bytes(sum(file["bytes"] for file in files.values()))
    return Check("checkpoint", GOOD, f"step {step}: {len(files)} files, {size}, every byte as written")


def metrics_file(path: Path) -> Check:
    try:
        rows = metrics.read(path)
    except ValueError as error:
        return Check("metrics", BROKEN, f"{path}: a line is not JSON ({error})")
    steps = [row["step"] for row in rows if "loss" in row]
    if steps != sorted(set(steps)):
        return Check("metrics", BROKEN, f"{path}: steps are not increasing")
    return Check("metrics", GOOD, f"{len(rows)} rows, up to step {steps[-1] if steps else 0}")


def packages() -> Iterator[Check]:
    yield Check("longrun", GOOD, f"commit {commit() or 'unknown'} in {ROOT}")
    yield Check("python", GOOD if sys.version_info >= (3, 11) else BROKEN, sys.version.split()[0])
    missing = [name for name in PACKAGES if installed(name) is None]
    versions = "  ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if name not in missing)
    yield Check("packages", GOOD, versions)
    if missing:
        yield Check("packages", BROKEN, f"not installed: {', '.join(missing)}. Try make test, or pip install -e .")


def devices() -> Iterator[Check]:
    try:
        import torch

        from model.precision import resolve
    except ImportError as error:
        yield Check("torch", BROKEN, str(error))
        return
    precision = resolve("auto", torch.device("cpu"))
    yield Check("cpu", GOOD, f"{processor()}, {torch.get_num_threads()} threads, precision=auto is {precision}")
    for index in range(torch.cuda.device_count()):
        device, properties = torch.device("cuda", index), torch.cuda.get_device_properties(index)
        memory, precision = format_bytes(properties.total_memory), resolve("auto", device)
        yield Check("gpu", GOOD, f"{index}: {properties.name}, {memory}, precision=auto is {precision}")
    if not torch.cuda.is_available():
        yield Check("gpu", NOTE, "torch finds no CUDA device; train.device=auto is the CPU")
    gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
    text = "torchrun works" if gloo else "this torch has no gloo: one process only"
    yield Check("ranks", GOOD if gloo else NOTE, text)


def free_space(subject: str, folder: Path) -> Check:
    """Free bytes and write permission; the folder need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if not os.access(existing, os.W_OK):
        return Check(subject, BROKEN, f"{folder}: {existing} cannot be written")
    free = shutil.disk_usage(existing).free
    return Check(subject, GOOD if free >= ENOUGH_SPACE else NOTE, f"{folder}: {format_bytes(free)} free")


def server(name: str, address: str | None = None) -> Check:
    """Reachability. Any HTTP status counts as reachable."""
    variable, default, purpose = SERVERS[name]
    address = address or os.environ.get(variable, default)
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SERVER_TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check(name, NOTE, f"{address} is not reachable ({reason}); needed for {purpose} only")
    return Check(name, GOOD, f"{address} is reachable")


def format_bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
