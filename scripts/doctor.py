"""Is this machine ready, and is this run whole?

    python -m scripts.doctor                     the environment
    python -m scripts.doctor runs/NAME ...       and every byte of these runs' checkpoints

Exit code 0; 1 if something is broken, not merely absent: a network is not needed to train.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.corpus import default_cache
from longrun.runs.environment import PACKAGES, ROOT, commit, installed, processor
from model.checkpoint import atomic_dir
from model.errors import ModelError

GOOD, NOTE, BROKEN = "ok", "note", "BROKEN"
PATIENCE = 3.0  # seconds for a server to answer
ROOM = 2 * 10**9  # bytes; a small model's checkpoints and a tokenised corpus need less


@dataclass
class Finding:
    what: str
    state: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<7} {self.what:<12} {self.text}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.doctor", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders to check")
    parser.add_argument("--offline", action="store_true", help="do not try the network")
    given = parser.parse_args(arguments)
    worst = GOOD
    for finding in findings(given.runs, not given.offline):
        print(finding, flush=True)
        worst = BROKEN if finding.state == BROKEN else worst
    return int(worst == BROKEN)


def findings(runs: list[Path], network: bool) -> Iterator[Finding]:
    for run in runs:
        yield from run_folder(run)
    yield from packages()
    yield from devices()
    yield room("disk", Path.cwd())
    yield room("cache", default_cache())
    if network:
        yield server("wandb", os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
        yield server("hub", os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


def run_folder(run: Path) -> Iterator[Finding]:
    """The state of a run, then each of its checkpoints, verified against its manifest."""
    if not (run / "config.yaml").is_file():
        yield Finding("run", BROKEN, f"{run}: no config.yaml, so this is not a run folder")
        return
    yield Finding("run", GOOD, f"{run}: {'finished' if (run / 'done').is_file() else 'not finished'}")
    found = atomic_dir.list_checkpoints(run / "checkpoints")
    whole = 0
    for step, path in found.items():
        try:
            files = atomic_dir.verify(path)["files"]
        except ModelError as error:
            yield Finding("checkpoint", BROKEN, str(error))
            continue
        whole += 1
        size = sum(file["bytes"] for file in files.values())
        yield Finding("checkpoint", GOOD, f"step {step}: {len(files)} files, {amount(size)}, every byte as written")
    if found and not whole:
        yield Finding("checkpoint", BROKEN, f"none of {run} can be continued or measured")
    if not found:
        yield Finding("checkpoint", NOTE, f"{run} has none yet")
    yield from metrics(run / "metrics.jsonl")


def metrics(path: Path) -> Iterator[Finding]:
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError as error:
        yield Finding("metrics", BROKEN, f"{path}: a line is not JSON ({error})")
        return
    steps = [row["step"] for row in rows if "loss" in row]
    ordered = steps == sorted(set(steps))
    text = f"{len(rows)} rows, up to step {steps[-1] if steps else 0}"
    yield Finding("metrics", GOOD if ordered else BROKEN, text if ordered else f"{path}: steps are not increasing")


def packages() -> Iterator[Finding]:
    yield Finding("longrun", GOOD, f"commit {commit() or 'unknown'} in {ROOT}")
    yield Finding("python", GOOD if sys.version_info >= (3, 11) else BROKEN, sys.version.split()[0])
    missing = [name for name in PACKAGES if installed(name) is None]
    versions = "  ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if name not in missing)
    yield Finding("packages", GOOD, versions)
    if missing:
        yield Finding("packages", BROKEN, f"not installed: {', '.join(missing)}. Try make test, or pip install -e .")


def devices() -> Iterator[Finding]:
    try:
        import torch

        from model.precision import resolve
    except ImportError as error:
        yield Finding("torch", BROKEN, str(error))
        return
    cpu = torch.device("cpu")
    yield Finding(
        "cpu", GOOD, f"{processor()}, {torch.get_num_threads()} threads, precision=auto is {resolve('auto', cpu)}"
    )
    for index in range(torch.cuda.device_count()):
        device, about = torch.device("cuda", index), torch.cuda.get_device_properties(index)
        memory = amount(about.total_memory)
        yield Finding("gpu", GOOD, f"{index}: {about.name}, {memory}, precision=auto is {resolve('auto', device)}")
    if not torch.cuda.is_available():
        yield Finding("gpu", NOTE, "torch finds no CUDA device; train.device=auto is the CPU")
    gloo = torch.distributed.is_available() and torch.distributed.is_gloo_available()
    yield Finding(
        "ranks", GOOD if gloo else NOTE, "torchrun works" if gloo else "this torch has no gloo: one process only"
    )


def room(what: str, folder: Path) -> Finding:
    """Free space, and whether we may write; the folder need not be there yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if not os.access(existing, os.W_OK):
        return Finding(what, BROKEN, f"{folder}: {existing} cannot be written")
    free = shutil.disk_usage(existing).free
    return Finding(what, GOOD if free >= ROOM else NOTE, f"{folder}: {amount(free)} free")


def server(what: str, address: str) -> Finding:
    """Any answer will do: what is asked is whether there is a way."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE):
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding(what, NOTE, f"{address} does not answer ({reason}); needed for {NEEDED[what]} only")
    return Finding(what, GOOD, f"{address} answers")


NEEDED = {"wandb": "tracker=online", "hub": "data sets and models of the hub"}


def amount(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
