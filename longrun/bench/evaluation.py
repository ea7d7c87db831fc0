"""Part `evaluation`: tokens/s and peak memory of scoring one long sequence, per scheme and length.

Memory is the highest resident size during the forward pass minus the resident size before it, after a first pass over
a few tokens: weights, libraries and first-use buffers are not counted. It is measured in one process per scheme, in
which freed memory returns to the OS immediately (MALLOC_MMAP_THRESHOLD_), so that the peak does not depend on the
allocator's caching. On CUDA it is the peak of torch's allocator. A second process times the scheme and NoPE in turn;
rounds=0 skips it, which suits a busy machine.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from longrun.base.paths import ROOT
from longrun.bench.timing import Shape, Work, interleaved, medians
from longrun.bench.training import by_content
from longrun.gallery.scheme_info import facts
from longrun.training.malloc import keep_freed_memory
from model import build
from model.errors import ModelError
from model.precision import autocast, resolve
from model.transformer import Transformer

TRAINED = 512  # the training length of the schemes
MIB = 2**20
RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(MIB)}  # environment: freed memory returns to the OS
TOO_SLOW = "too slow to measure"
Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """shape: the model; its `length` and `batch` are not used, since a batch is one sequence of each of `lengths`."""

    shape: Shape
    schemes: tuple[str, ...]
    lengths: tuple[int, ...]
    precision: str = "auto"
    rounds: int = 2
    limit: float = 120.0  # seconds per scheme; longer lengths are then marked as too slow


def run(job: Evaluation, device: torch.device) -> Row:
    rows = []
    for scheme in job.schemes:
        rows += _measured(job, scheme, device)
    model = {key: value for key, value in asdict(job.shape).items() if key not in ("length", "batch")}
    settings = {"model": model, "precision": resolve(job.precision, device), "trained": TRAINED}
    return {"settings": settings, "rounds": job.rounds, "rows": rows}


def _measured(job: Evaluation, scheme: str, device: torch.device) -> list[Row]:
    """One row per length, with the measurements or with `refused`."""
    shared = {"scheme": scheme, "family": facts(scheme).family}
    rows = [shared | row for row in _in_child(job, scheme, "memory", device)]
    for row, speed in zip(rows, _in_child(job, scheme, "speed", device) if job.rounds else [], strict=False):
        row |= {key: value for key, value in speed.items() if key != "refused"}
    return rows


def _in_child(job: Evaluation, scheme: str, kind: str, device: torch.device) -> list[Row]:
    request = {
        "scheme": scheme, "lengths": sorted(job.lengths), "shape": asdict(job.shape), "precision": job.precision,
        "rounds": job.rounds, "limit": job.limit, "device": device.type, "threads": torch.get_num_threads(),
        "kind": kind,
    }  # fmt: skip
    environment = (
        os.environ
        | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        | (RETURN_FREED_MEMORY if kind == "memory" else {})
    )
    command = [sys.executable, "-m", "longrun.bench.evaluation", json.dumps(request)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3 * job.limit)
    except subprocess.TimeoutExpired:
        return [{"length": length, "refused": TOO_SLOW} for length in sorted(job.lengths)]
    if done.returncode:
        raise RuntimeError(f"measuring {scheme} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def child(request: Row) -> list[Row]:
    """The measurements of one scheme, inside its process."""
    torch.set_num_threads(request["threads"])
    keep_freed_memory()  # as eval.py does, unless the environment sets otherwise
    shape, device = Shape(**request["shape"]), torch.device(request["device"])
    started, rows = time.perf_counter(), []
    try:
        model = _model(shape, request["scheme"], device)
    except ModelError as error:
        return [{"length": length, "refused": str(error).splitlines()[0]} for length in request["lengths"]]
    models = {"scheme": model, "nope": _model(shape, "nope", device)} if request["kind"] == "speed" else {}
    for length in request["lengths"]:
        row: Row = {"length": length, "content": by_content(model)}
        try:
            model.check_length(length)
            if time.perf_counter() - started > request["limit"]:
                row["refused"] = TOO_SLOW
            elif request["kind"] == "memory":
                score(model, 64, request["precision"])()  # first-use buffers of the libraries
                row |= {"peak_mib": peak(score(model, length, request["precision"]), device) / MIB}
            else:
                row |= _speed(models, length, request, device)
        except ModelError as error:
            row["refused"] = str(error).splitlines()[0]
        rows.append(row)
    return rows


def _model(shape: Shape, name: str, device: torch.device) -> Transformer:
    return build(shape.vocabulary, TRAINED, shape.model, name).to(device).eval()


def _speed(models: dict[str, Transformer], length: int, request: Row, device: torch.device) -> Row:
    works = {name: score(model, length, request["precision"]) for name, model in models.items()}
    seconds = medians(interleaved(works, request["rounds"], device, warmup=int(length < 8192)))
    return {"tokens_per_s": length / seconds["scheme"], "of_nope": seconds["nope"] / seconds["scheme"]}


def score(model: Transformer, length: int, precision: str) -> Work:
    """-log p of every token of one sequence."""
    device = model.embedding.weight.device
    tokens = torch.randint(model.vocab_size, (1, length + 1), generator=torch.Generator().manual_seed(0)).to(device)

    def work() -> None:
        with autocast(precision, device):
            model.nll(tokens[:, :-1], tokens[:, 1:])

    return work


def peak(work: Work, device: torch.device) -> float:
    """Peak memory of the work in bytes, minus the memory in use before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before)
    before = _reset_peak()
    work()
    return max(0.0, _status("VmHWM") - before)


def _reset_peak() -> float:
    """Set the highest resident size back to the present one, and return it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not permitted, or not Linux: the peak of the process so far; lengths are ascending
        return _status("VmRSS")
    return _status("VmHWM")


def _status(key: str) -> float:
    """Bytes of a line of /proc/self/status; without /proc, the highest resident size."""
    try:
        match = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        match = None
    if match is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
    return 1024.0 * int(match[1])


def format_result(result: Row) -> list[str]:
    lines = [f"evaluation of one sequence, {result['settings']['precision']}, {result['rounds']} rounds"]
    for row in result["rows"]:
        start = f"  {row['scheme']:<24} {row['length']:>7,}"
        if "refused" in row:
            lines.append(f"{start}  n/a: {row['refused']}")
        else:
            speed = f"{row['tokens_per_s']:9,.0f} tokens/s {row['of_nope']:5.2f} of NoPE " if "of_nope" in row else ""
            lines.append(f"{start} {speed}{row['peak_mib']:5.0f} MiB")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="one scheme, for scripts.bench")
    parser.add_argument("request", type=json.loads)
    print(json.dumps(child(parser.parse_args().request)))
