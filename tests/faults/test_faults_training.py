"""Faults of a training run in one process: F2, F5, F6, F16, F19, F20. Those of several ranks: test_faults_ranks.py.

F1, F3, F4, F5 (saving) and F15 are in test_faults_checkpoint.py and test_faults_hostile.py, F13 in test_parallel.py,
F14 in test_cli.py, F17 in test_launcher.py, F18 in test_tracking.py, F24 in test_pe_properties.py.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from training_runs import (
    ROOT,
    SMALL,
    assert_same,
    command,
    gone,
    last_step,
    only_run,
    rows,
    run,
    start,
    steps_saved,
    torchrun,
    wait_for_step,
    write_corpus,
)

from longrun.config import cli


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.stress
def test_f2_killed_20_times(corpus: list[str], tmp_path: Path):
    """kill -9 after a random number of steps, 20 times, dropout on. (Once: test_train.py.)"""
    words = [*corpus, "pe=t5", "train.steps=250", "model.dropout=0.1", "checkpoint.every=7", "eval_at_end=false"]
    run(command(*words, f"root={tmp_path / 'whole'}"))
    root, chance = tmp_path / "cut", random.Random(0)
    kills = 0
    while kills < 20:
        process = start(command(*words, f"root={root}"))
        wait_for_step(root, last_step(root) + chance.randint(1, 14), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -9, "the run ended before it could be killed"
        kills += 1
    run(command(*words, f"root={root}"))
    assert_same(only_run(root), only_run(tmp_path / "whole"))


def inside(program: str, *words: str) -> int:
    """train.py or eval.py inside this process, which has imported torch already."""
    small = [] if program == "eval" else SMALL
    return cli.guarded(lambda: cli.dispatch(program, f"{program}:main", [*small, *words]))


def interrupted(corpus: list[str], root: Path) -> tuple[Path, list[str]]:
    """A run that was cut off after three steps of six, and its overrides."""
    words = [*corpus, "pe=rope", "train.steps=6", "eval_at_end=false", f"root={root}"]
    assert inside("train", *words, "checkpoint.every=3") == 0
    run = only_run(root)
    (run / "done").unlink()
    shutil.rmtree(run / "checkpoints" / "6")
    return run, words


RESUMED = {  # what the checkpoint was trained with, and the words of the refusal
    "model.width=64": ("model.width", "64", "32"),
    "model.layers=1": ("model.layers", "1", "2"),
    "pe=alibi": ("pe.name", "'alibi'", "'rope'"),
    "pe.base=500": ("pe.base", "500", "10000"),
    "positions=randomised": ("positions.name", "'randomised'", "'contiguous'"),
    "data.tokenizer=bpe data.vocab_size=300": ("tokenizer: the checkpoint has '", "vocab_size", "this run 257"),
}


@pytest.mark.parametrize("change", RESUMED)
def test_f6_a_checkpoint_of_another_run_is_not_continued(corpus, tmp_path: Path, capsys, change: str):
    mine, words = interrupted(corpus, tmp_path / "mine")
    others = tmp_path / "other"
    assert inside("train", *words, *change.split(), "train.steps=1", f"root={others}") == 0
    shutil.rmtree(mine / "checkpoints")
    shutil.copytree(only_run(others) / "checkpoints", mine / "checkpoints")
    capsys.readouterr()
    assert inside("train", *words) == 2
    err = capsys.readouterr().err
    for word in ("does not belong to this run", *RESUMED[change]):
        assert word in err
    assert "Traceback" not in err
    assert steps_saved(mine.parent) == [1]


def test_f6_a_corpus_that_has_changed_is_not_continued_nor_measured(tmp_path: Path, capsys):
    run, given = with_another_text(tmp_path)
    before = json.loads((run / "checkpoints" / "3" / "manifest.json").read_text())["data_fingerprint"]
    for program, words in given.items():
        assert inside(program, *words) == 2
        err = capsys.readouterr().err
        assert f"data_fingerprint: the checkpoint has '{before}', this run '" in err
    assert not (run / "eval").exists()


def with_another_text(folder: Path) -> tuple[Path, dict[str, list[str]]]:
    """A run whose text was edited after it was cut off, and what to say to continue it and to measure it."""
    run, words = interrupted(write_corpus(folder / "corpus"), folder / "runs")
    (folder / "corpus" / "text" / "0.txt").write_text("five six " * 50)
    return run, {"train": words, "eval": [f"run={run}", "threads=1"]}


def test_f6_a_run_folder_with_another_tokenizer_is_not_measured(corpus, tmp_path: Path, capsys):
    """All of its tokens would mean something else."""
    run, words = interrupted(corpus, tmp_path / "mine")
    other = ["data.tokenizer=bpe", "data.vocab_size=257", "train.steps=1", f"root={tmp_path / 'other'}"]
    assert inside("train", *words, *other) == 0
    for file in only_run(tmp_path / "other").glob("tokenizer*"):
        shutil.copy(file, run / file.name)
    capsys.readouterr()
    assert inside("eval", f"run={run}", "threads=1") == 2
    assert "tokenizer: the checkpoint has '" in capsys.readouterr().err


@pytest.mark.stress
def test_f6_is_answered_within_three_seconds(tmp_path: Path):
    """Of a processor; on a machine that takes longer than a second and a half for `import torch`, in twice that."""
    _, given = with_another_text(tmp_path)
    alone = processor_seconds(lambda: run([sys.executable, "-c", "import torch"]))
    for program, words in given.items():
        arguments = command(*words) if program == "train" else [sys.executable, str(ROOT / "eval.py"), *words]
        took = processor_seconds(lambda arguments=arguments: run(arguments, expect=2))
        print(f"{program}.py: {took:.1f} s of a processor; import torch: {alone:.1f} s")
        assert took < max(3, 2 * alone)


def processor_seconds(work: Callable[[], object]) -> float:
    """What the child processes of `work` use."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_f5_a_file_that_may_not_grow_ends_a_run_clearly(corpus: list[str], tmp_path: Path):
    """The limit of `ulimit -f` stands for the full disk, which not every machine lets a test make."""
    words = [*corpus, "pe=rope", "train.steps=40", "checkpoint.every=10", "eval_at_end=false", f"root={tmp_path}"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    _, err = run(command(*words), expect=1, preexec_fn=limit)
    assert "checkpoint of step 10 not saved" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 3
    assert not list(only_run(tmp_path).glob("checkpoints/*"))
    run(command(*words))
    assert rows(only_run(tmp_path))[-1]["step"] == 40


DISK = """
import subprocess, sys
from pathlib import Path
from test_faults_checkpoint import mount_a_disk
from training_runs import command

disk, left, words = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
if not mount_a_disk(disk, "8m"):
    sys.exit(77)
filler = disk / "filler"
filler.write_bytes(bytes(8 * 2**20 - left))
first = subprocess.run(command(*words), capture_output=True, text=True)
print(first.returncode, first.stderr)
checkpoints = sorted(path.name for path in disk.glob("*/checkpoints/*"))
filler.unlink()
second = subprocess.run(command(*words), capture_output=True, text=True)
print("CUT", second.returncode, checkpoints, second.stdout, second.stderr)
"""


@pytest.mark.parametrize(
    ("left", "every", "says"),
    [(1_800_000, 3, "not saved; the earlier ones in"), pytest.param(60_000, 1000, "row", marks=pytest.mark.slow)],
)
def test_f5_a_full_disk(corpus: list[str], tmp_path: Path, left: int, every: int, says: str):
    """While saving (room for the first checkpoints), and while logging."""
    words = [*corpus, "pe=rope", "train.steps=400", f"checkpoint.every={every}", "checkpoint.keep=100"]
    arguments = [str(tmp_path), str(left), *words, "eval_at_end=false", f"root={tmp_path}"]
    path = os.pathsep.join(map(str, [ROOT, ROOT / "tests" / "helpers", ROOT / "tests" / "faults"]))
    done = subprocess.run(
        [sys.executable, "-c", DISK, *arguments], capture_output=True, text=True, timeout=200,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this machine lets nobody mount; test_f5_a_file_that_may_not_grow covers the handling")
    first, second = done.stdout.split("CUT", 1)
    assert first.startswith("1 error: "), done.stdout + done.stderr
    assert "Traceback" not in first
    assert says in first
    assert ".tmp" not in second
    if every < 100:
        assert "continuing" in second


@pytest.mark.slow
def test_f19_wandb_that_raises_in_log(corpus: list[str], tmp_path: Path):
    words = [*corpus, "pe=rope", "train.steps=20", "eval_at_end=false", "tracker=offline"]
    _, err = run(command(*words, f"root={tmp_path}", fault=True), fault="wandb:0:")
    assert err.count("no space on the server") == 1
    assert len(rows(only_run(tmp_path))) == 22


@pytest.mark.slow
def test_f19_online_without_network_or_key(corpus: list[str], tmp_path: Path):
    words = [*corpus, "pe=rope", "train.steps=20", "eval_at_end=false"]
    times = []
    for mode in ("off", "online"):
        begun = time.monotonic()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"HOME": str(tmp_path)}
        done = subprocess.run(
            command(*words, f"tracker={mode}", f"root={tmp_path / mode}"), cwd=ROOT, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=120,
            env=kept | {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_ERROR_REPORTING": "false"},
        )  # fmt: skip
        times.append(time.monotonic() - begun)
        assert done.returncode == 0, done.stderr
    print(f"without wandb {times[0]:.1f} s, online without network and key {times[1]:.1f} s")
    assert len([line for line in done.stderr.splitlines() if line.strip()]) == 1
    assert rows(only_run(tmp_path / "off")) == rows(only_run(tmp_path / "online"))


def test_f20_the_second_process_is_told_who_holds_the_folder(corpus: list[str], tmp_path: Path):
    words = [*corpus, "pe=rope", "train.steps=100000", f"root={tmp_path}"]
    holder = start(command(*words))
    try:
        wait_for_step(tmp_path, 1, holder)
        _, err = run(command(*words), expect=2)
        took = processor_seconds(lambda: run(command(*words), expect=2))
    finally:
        holder.kill()
        holder.communicate()
    assert f"in use by process {holder.pid} on" in err
    assert took < 1.5  # torch was not even imported
    stale = start(command(*words))  # the lock went with its process
    assert stale.stdout is not None
    assert "training" in stale.stdout.readline()
    assert "step 1/" in stale.stdout.readline()
    stale.send_signal(signal.SIGTERM)
    out, err = stale.communicate(timeout=60)
    assert stale.returncode == 128 + signal.SIGTERM, out + err


@pytest.mark.stress
def test_f16_twenty_launches_in_one_second(corpus: list[str], tmp_path: Path):
    """Twenty seeds: twenty folders. Twenty times the same command: one trains, the others are told."""
    words = [*corpus, "pe=rope", "train.steps=3", "eval_at_end=false"]
    begun = time.monotonic()
    seeds = [start(command(*words, f"seed={seed}", f"root={tmp_path / 'seeds'}")) for seed in range(20)]
    same = [start(command(*words, "train.steps=3000", f"root={tmp_path / 'same'}")) for _ in range(20)]
    print(f"40 processes started in {time.monotonic() - begun:.2f} s")
    for process in seeds:
        out, err = process.communicate(timeout=500)
        assert process.returncode == 0, out + err
    assert len(list((tmp_path / "seeds").glob("*/done"))) == 20
    ends = [(process.communicate(timeout=500), process.returncode) for process in same]
    assert sorted(code for _, code in ends) == [0] + [2] * 19
    assert all("in use by" in err for (_, err), code in ends if code == 2)
    assert rows(only_run(tmp_path / "same"))[-1]["step"] == 3000


@pytest.mark.stress
def test_f16_twenty_launches_of_four_ranks(corpus: list[str], tmp_path: Path):
    words = [*corpus, "pe=rope", "train.steps=3", "eval_at_end=false", f"root={tmp_path}"]
    for number in range(20):
        out, _ = run(torchrun(*words, f"seed={number}", world=4))
        assert out.count("training ") == 1
    assert len(list(tmp_path.glob("*"))) == len(list(tmp_path.glob("*/done"))) == 20
    gone(f"root={tmp_path}", 5)
