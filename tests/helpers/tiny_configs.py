"""Configurations for tests, composed as the command line does, and a program to launch that needs no torch."""

import sys
from pathlib import Path

from longrun.config import compose, cross_checks, schema

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from longrun.config.cli import run
run("train", "job:main")
"""
# One job: writes down that it started, dies if kill.txt has its seed, sleeps `train.steps` milliseconds, finishes.
JOB = """
import json, os, signal, sys, time
from pathlib import Path
from longrun.runs.run_folder import RunFolder

HERE = Path(__file__).parent

def main(config):
    folder = RunFolder.of(config)
    with folder.lock():
        folder.create(config)
        seen = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
        seen |= {"seed": config.seed, "pid": os.getpid(), "group": config.tracker.group, "time": time.time()}
        with (HERE / "started.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\\n")
        print("a line of output")
        if str(config.seed) in (HERE / "kill.txt").read_text().split():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(config.train.steps / 1000)
        folder.finish({"valid_bits_per_byte": 1.25})
"""


def config(words: str = "") -> schema.TrainConfig:
    """The checked configuration of `python train.py <words>`."""
    arguments = compose.parse(words.split())
    return cross_checks.train_config(compose.compose("train", schema.TrainConfig, arguments, lambda values: None))


def write_program(folder: Path, kill: str = "") -> list[str]:
    """The command that starts the program, written to `folder`."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "job.py").write_text(JOB)
    (folder / "kill.txt").write_text(kill)
    return [sys.executable, str(folder / "program.py")]
