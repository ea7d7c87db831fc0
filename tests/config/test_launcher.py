"""Sweeps: a process for each job, failures alone, nothing done twice, and no orphans."""

import json
import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tiny_configs import write_program

from longrun.launch.slots import Slot, devices, slots

SIX = ["-m", "pe=nope,rope", "seed=0,1,2", "train.steps=50", "launch.slots=2"]


def launch(folder: Path, *words: str, kill: str = "", **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*write_program(folder, kill), *words],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def started(folder: Path) -> list[dict]:
    path = folder / "started.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory):
    """A sweep of six, the two jobs with seed 1 killed; then the same command again; then once more."""
    folder = tmp_path_factory.mktemp("sweep")
    runs, launched = [], []
    for kill in ("1", "", ""):
        before = len(started(folder))
        runs.append(launch(folder, *SIX, kill=kill))
        launched.append(started(folder)[before:])
    return folder, runs, launched


def test_a_killed_job_fails_alone(sweep):
    _, (first, _, _), (launched, _, _) = sweep
    assert first.returncode == 1
    assert sorted(row["seed"] for row in launched) == [0, 0, 1, 1, 2, 2]
    assert first.stdout.count("killed by SIGKILL") == 2
    assert first.stdout.count("1.2500 bits/byte") == 4
    assert "2 of 6 runs are not finished" in first.stdout


def test_launched_again_only_what_is_missing_runs(sweep):
    _, (_, second, _), (_, launched, _) = sweep
    assert second.returncode == 0, second.stderr
    assert [row["seed"] for row in launched] == [1, 1]
    assert second.stdout.count("already finished") == 4


def test_launched_once_more_nothing_runs(sweep):
    _, (_, _, third), (_, _, launched) = sweep
    assert third.returncode == 0
    assert launched == []
    assert third.stdout.count("already finished") == 6


def test_jobs_share_the_machine_and_a_group(sweep):
    _, _, (launched, again, _) = sweep
    cores = len(os.sched_getaffinity(0))
    assert {row["OMP_NUM_THREADS"] for row in launched} == {str(max(1, cores // 2))}
    assert len({row["pid"] for row in launched}) == 6
    assert len({row["group"] for row in launched + again}) == 1
    assert launched[0]["group"].startswith("sweep-")


def test_output_of_a_job_is_in_a_file(sweep):
    folder, _, _ = sweep
    logs = sorted((folder / "runs" / "logs").glob("*.log"))
    assert len(logs) == 6
    assert all("a line of output" in log.read_text() for log in logs)
    assert len(list((folder / "runs").glob("*/done"))) == 6


def test_no_more_jobs_at_a_time_than_slots(tmp_path: Path):
    done = launch(tmp_path, "-m", "pe=nope", "seed=0,1,2", "train.steps=150", "launch.slots=1")
    assert done.returncode == 0
    begun = [row["time"] for row in started(tmp_path)]
    assert all(later - earlier >= 0.15 for earlier, later in pairwise(begun))


def test_bad_input_starts_nothing(tmp_path: Path):
    done = launch(tmp_path, "-m", "pe=rope,alibi", "seed=0,1", "model.width=128,100", "model.heads=8")
    assert done.returncode == 2
    assert "model.width=100" in done.stderr
    assert "Traceback" not in done.stderr
    assert started(tmp_path) == []
    assert not (tmp_path / "runs").exists()


def test_the_same_run_named_twice_runs_once(tmp_path: Path):
    done = launch(tmp_path, "-m", "pe=nope", "seed=0,0", "train.steps=1")
    assert done.returncode == 0
    assert len(started(tmp_path)) == 1
    assert "same run" in done.stdout


def test_the_command_line_replaces_what_an_experiment_sweeps(tmp_path: Path):
    done = launch(tmp_path, "-m", "experiment=rope_degrades", "seed=5,6", "root=runs", "train.steps=50")
    assert done.returncode == 0, done.stderr
    assert sorted(row["seed"] for row in started(tmp_path)) == [5, 6]
    assert "named twice" not in done.stdout


def test_finished_run_says_so_in_a_line(tmp_path: Path):
    first = launch(tmp_path, "pe=nope", "train.steps=1")
    again = launch(tmp_path, "pe=nope", "train.steps=1")
    assert (first.returncode, again.returncode) == (0, 0)
    assert len(again.stdout.splitlines()) == 1
    assert "is finished" in again.stdout
    assert len(started(tmp_path)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_children(tmp_path: Path, number: signal.Signals):
    command = write_program(tmp_path)
    words = ["-m", "pe=nope", "seed=0,1,2", "train.steps=60000", "launch.slots=2"]
    process = subprocess.Popen(
        [*command, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # `make test &` in a script ignores it
    )
    wait_for(lambda: len(started(tmp_path)) == 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    for row in started(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(row["pid"], 0)
    assert output.count("interrupted") >= 2
    assert "not started" in output


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_slots_on_a_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("longrun.launch.slots.cores", lambda: 16)
    assert slots(jobs=6, count=None, nproc=1, threads=None, device="auto") == [Slot(2)] * 6
    assert slots(jobs=99, count=None, nproc=1, threads=None, device="auto") == [Slot(2)] * 8
    assert slots(jobs=99, count=None, nproc=1, threads=4, device="cpu") == [Slot(4)] * 4
    assert slots(jobs=99, count=3, nproc=2, threads=None, device="auto") == [Slot(2)] * 3
    assert slots(jobs=1, count=8, nproc=1, threads=None, device="auto") == [Slot(16)]


def test_slots_on_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setattr("longrun.launch.slots.cores", lambda: 16)
    assert devices() == ["4", "5", "6", "7"]
    assert [slot.devices for slot in slots(9, None, 1, None, "auto")] == [("4",), ("5",), ("6",), ("7",)]
    assert [slot.devices for slot in slots(9, None, 2, None, "cuda")] == [("4", "5"), ("6", "7")]
    assert [slot.devices for slot in slots(9, 8, 1, None, "auto")][4:] == [("4",), ("5",), ("6",), ("7",)]
    assert all(slot.devices == () for slot in slots(9, None, 1, None, "cpu"))
    assert Slot(4, ("5",)).environment() == {
        "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "5",
    }
