"""Small real runs of train.py: the settings, the corpus, and what is read from a run folder afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
FAULTY = Path(__file__).with_name("faulty_training.py")
SMALL = [
    "model.layers=2", "model.width=32", "model.heads=4", "train.length=16", "train.batch=8", "train.log_every=1",
    "train.valid_every=10", "train.valid_windows=8", "train.precision=fp32", "train.threads=1", "tracker=off",
    "eval.ratios=[1,2]", "eval.targets=8", "eval.documents=4", "eval.control=false", "data=text", "data.tokenizer=byte",
]  # fmt: skip


def write_corpus(folder: Path, files: int = 30, words: int = 100) -> list[str]:
    """Write a small text of four different words below `folder`; the overrides that name it."""
    text = folder / "text"
    text.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(files):
        (text / f"{i}.txt").write_text(" ".join(rng.choice(["one", "two", "three", "four"], words)))
    return [f"data.path={text}", f"data.cache={folder / 'cache'}"]


def command(*words: str, fault: bool = False) -> list[str]:
    return [sys.executable, str(FAULTY if fault else ROOT / "train.py"), *SMALL, *words]


def torchrun(*words: str, fault: bool = False, world: int = 2, options: tuple[str, ...] = ()) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", *options]
    return [*start, *command(*words, fault=fault)[1:]]


def start(arguments: list[str], fault: str = "", **options) -> subprocess.Popen:
    """In the background, output in pipes. fault: see faulty_training.py."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FAULT": fault}
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, **options)


def run(arguments: list[str], expect: int = 0, fault: str = "", **options) -> tuple[str, str]:
    """To the end: what it wrote to stdout and stderr."""
    process = start(arguments, fault, **options)
    out, err = process.communicate(timeout=240)
    assert process.returncode == expect, out + err
    return out, err


def wait_for_step(root: Path, step: int, process: subprocess.Popen) -> None:
    while process.poll() is None and last_step(root) < step:
        time.sleep(0.01)


def last_step(root: Path) -> int:
    metrics = list(root.glob("*/metrics.jsonl"))
    lines = metrics[0].read_text().splitlines() if metrics else []
    return json.loads(lines[-1])["step"] if lines else 0


def only_run(root: Path) -> Path:
    (folder,) = (path.parent for path in root.glob("*/config.yaml"))
    return folder


def steps_saved(root: Path) -> list[int]:
    return sorted(int(path.name) for path in (only_run(root) / "checkpoints").iterdir())


def weights(run: Path) -> dict[str, np.ndarray]:
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return load_file(newest / "model.safetensors")


def rows(run: Path) -> list[dict]:
    """metrics.jsonl without what a clock decided."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "tokens_per_s"} for line in lines]


def assert_same(one: Path, two: Path) -> None:
    """The same bits: every row of metrics.jsonl, none missing and none twice, and every weight."""
    assert rows(one) == rows(two)
    for name, tensor in weights(one).items():
        np.testing.assert_array_equal(weights(two)[name], tensor, err_msg=name)


def processes(mark: str) -> list[int]:
    """Running processes that have `mark` in their command line, zombies not among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            alive = mark.encode() in (path / "cmdline").read_bytes() and int(path.name) != os.getpid()
        except OSError:
            continue
        if alive:
            found.append(int(path.name))
    return found


def gone(mark: str, seconds: float) -> float:
    """Wait until no process has `mark` in its command line: how long it took. Kills what is left, and fails."""
    begun = time.monotonic()
    while left := processes(mark):
        if time.monotonic() - begun > seconds:
            for number in left:
                os.kill(number, signal.SIGKILL)
            raise AssertionError(f"still running after {seconds} s: {left}")
        time.sleep(0.05)
    return time.monotonic() - begun
