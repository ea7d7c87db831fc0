"""Part `evaluation`: tokens/s and peak memory of scoring one long sequence, for each scheme and length.

Memory is the highest resident size during the forward pass minus the resident size before it, when the model was built
and had run once on a few tokens: weights, library and first-use buffers are not counted. Each scheme has a process of
its own for it, in which what is freed goes back to the system at once, for otherwise the figure is as much about the
allocator. On CUDA it is what torch's allocator handed out. Another process then times the scheme and NoPE in turn; none
if rounds=0, for memory does not mind a busy machine.
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

TRAINED = 512  # the training length that the schemes are built for
MIB = 2**20
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(MIB)}  # environment of a process that gives back what is freed
TOO_SLOW = "too slow to measure"
Row = dict[str, object]


@dataclass(frozen=True)
class Evaluation:
    """shape: the model; its `length` and `batch` are not used, since a batch is one sequence of each of `lengths`."""

    shape: Shape
    schemes: tuple[str, ...]
    lengths: tuple[int, ...]
    precision: str = "auto"
    rounds: int = 2
    limit: float = 120.0  # seconds a scheme may take in all; longer lengths are then left out, and that is said


def run(job: Evaluation, device: torch.device) -> Row:
    rows = []
    for scheme in job.schemes:
        rows += _measured(job, scheme, device)
    model = {key: value for key, value in asdict(job.shape).items() if key not in ("length", "batch")}
    settings = {"model": model, "precision": resolve(job.precision, device), "trained": TRAINED}
    return {"settings": settings, "rounds": job.rounds, "rows": rows}


def _measured(job: Evaluation, scheme: str, device: torch.device) -> list[Row]:
    """One row for each length, with what was measured, or with `refused`."""
    known = {"scheme": scheme, "family": facts(scheme).family}
    rows = [known | row for row in _in_a_process(job, scheme, "memory", device)]
    for row, speed in zip(rows, _in_a_process(job, scheme, "speed", device) if job.rounds else [], strict=False):
        row |= {key: value for key, value in speed.items() if key != "refused"}
    return rows


def _in_a_process(job: Evaluation, scheme: str, kind: str, device: torch.device) -> list[Row]:
    words = {
        "scheme": scheme, "lengths": sorted(job.lengths), "shape": asdict(job.shape), "precision": job.precision,
        "rounds": job.rounds, "limit": job.limit, "device": device.type, "threads": torch.get_num_threads(),
        "kind": kind,
    }  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | (AT_ONCE if kind == "memory" else {})
    command = [sys.executable, "-m", "longrun.bench.evaluation", json.dumps(words)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3 * job.limit)
    except subprocess.TimeoutExpired:
        return [{"length": length, "refused": TOO_SLOW} for length in sorted(job.lengths)]
    if done.returncode:
        raise RuntimeError(f"measuring {scheme} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def child(words: Row) -> list[Row]:
    """Inside the process of a scheme."""
    torch.set_num_threads(words["threads"])
    keep_freed_memory()  # as eval.py does, unless the environment says otherwise
    shape, device = Shape(**words["shape"]), torch.device(words["device"])
    started, rows = time.perf_counter(), []
    try:
        model = _model(shape, words["scheme"], device)
    except ModelError as error:
        return [{"length": length, "refused": str(error).splitlines()[0]} for length in words["lengths"]]
    models = {"it": model, "nope": _model(shape, "nope", device)} if words["kind"] == "speed" else {}
    for length in words["lengths"]:
        row: Row = {"length": length, "content": by_content(model)}
        try:
            model.check_length(length)
            if time.perf_counter() - started > words["limit"]:
                row["refused"] = TOO_SLOW
            elif words["kind"] == "memory":
                score(model, 64, words["precision"])()  # first-use buffers of the libraries
                row |= {"peak_mib": peak(score(model, length, words["precision"]), device) / MIB}
            else:
                row |= _speed(models, length, words, device)
        except ModelError as error:
            row["refused"] = str(error).splitlines()[0]
        rows.append(row)
    return rows


def _model(shape: Shape, name: str, device: torch.device) -> Transformer:
    return build(shape.vocabulary, TRAINED, shape.model, name).to(device).eval()


def _speed(models: dict[str, Transformer], length: int, words: Row, device: torch.device) -> Row:
    works = {name: score(model, length, words["precision"]) for name, model in models.items()}
    seconds = medians(interleaved(works, words["rounds"], device, warmup=int(length < 8192)))
    return {"tokens_per_s": length / seconds["it"], "of_nope": seconds["nope"] / seconds["it"]}


def score(model: Transformer, length: int, precision: str) -> Work:
    """-log p of every token of one sequence."""
    device = model.embedding.weight.device
    tokens = torch.randint(model.vocab_size, (1, length + 1), generator=torch.Generator().manual_seed(0)).to(device)

    def work() -> None:
        with autocast(precision, device):
            model.nll(tokens[:, :-1], tokens[:, 1:])

    return work


def peak(work: Work, device: torch.device) -> float:
    """Bytes that the work needs at most, over what is there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before)
    before = _forget_the_peak()
    work()
    return max(0.0, _status("VmHWM") - before)


def _forget_the_peak() -> float:
    """Set the highest resident size back to the present one, and return that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not allowed, or not Linux: then the peak of the whole process counts, and lengths only grow
        return _status("VmRSS")
    return _status("VmHWM")


def _status(key: str) -> float:
    """Bytes of a line of /proc/self/status; elsewhere the highest resident size, which is all that is known."""
    try:
        found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
    return 1024.0 * int(found[1])


def show(result: Row) -> list[str]:
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
    parser.add_argument("words", type=json.loads)
    print(json.dumps(child(parser.parse_args().words)))
