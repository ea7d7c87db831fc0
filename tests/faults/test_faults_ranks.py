"""Faults of runs with several ranks: F7 to F11. Real processes under torchrun, over gloo."""

import signal
import time
from pathlib import Path

import pytest
from training_runs import (
    assert_same,
    command,
    gone,
    only_run,
    rows,
    run,
    start,
    steps_saved,
    torchrun,
    wait_for_step,
    write_corpus,
)

HANDLED = "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    text = write_corpus(tmp_path_factory.mktemp("corpus"))
    return [*text, "pe=t5", "model.dropout=0.1", "train.steps=40", "checkpoint.every=5", "eval_at_end=false"]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks that nothing happened to."""
    root = tmp_path_factory.mktemp("whole")
    run(torchrun(*words, f"root={root}"))
    return only_run(root)


def test_f7_all_ranks_skip_the_step_that_one_rank_cannot_compute(words: list[str], tmp_path: Path):
    short = [*words, "train.steps=14"]
    run(torchrun(*short, f"root={tmp_path / 'bad'}", fault=True), fault="loss:1:4,5 gradient:0:9")
    run(torchrun(*short, f"root={tmp_path / 'skip'}", fault=True), fault="skip:0:4,5,9")
    bad, skipped = (only_run(tmp_path / name) for name in ("bad", "skip"))
    seen = rows(bad)
    assert [row["step"] for row in seen if row.get("loss", 0) is None] == [5, 6]
    assert [row["step"] for row in seen if row.get("grad_norm", 0) is None] == [5, 6, 10]
    assert seen[-2]["skipped"] == 3
    for one, two in zip(seen, rows(skipped), strict=True):
        differing = {key for key in one if one[key] != two[key]}
        assert differing <= ({"loss", "bits_per_byte", "grad_norm", "skipped"} if "loss" in one else set())
    same_weights(bad, skipped)


def same_weights(one: Path, two: Path) -> None:
    from training_runs import weights

    mine, others = weights(one), weights(two)
    assert all((mine[name] == others[name]).all() for name in mine)


def test_f7_three_bad_steps_in_a_row_stop_the_run(words: list[str], tmp_path: Path):
    _, err = run(command(*words, f"root={tmp_path}", fault=True), expect=2, fault="gradient:0:7,8,9")
    assert "not finite 3 steps in a row, at step 10" in err
    assert "optim.lr" in err
    assert "Traceback" not in err
    assert steps_saved(tmp_path) == [5]


def test_f8_f10_a_killed_rank_and_a_stopped_launcher(words: list[str], whole: Path, tmp_path: Path):
    """A rank is killed, the same command is stopped with SIGTERM, the same command ends with the same bits."""
    lose_a_rank(words, tmp_path, within=10)
    stop_launcher(words, tmp_path, signal.SIGTERM, after=25)
    run(torchrun(*words, f"root={tmp_path}"))
    assert_same(only_run(tmp_path), whole)


def lose_a_rank(words: list[str], root: Path, within: float, rank: int = 1) -> float:
    """Seconds from the death of a rank to the end of the job."""
    process = start(torchrun(*words, f"root={root}", fault=True), fault=f"kill:{rank}:17")
    wait_for_step(root, 17, process)
    begun = time.monotonic()
    assert process.wait(60) == 1
    gone(f"root={root}", 5)
    took = time.monotonic() - begun
    process.communicate()
    assert took < within
    assert steps_saved(root)[-1] == 15
    return took


def stop_launcher(words: list[str], root: Path, number: int, after: int, options: tuple[str, ...] = ()) -> float:
    """Signal torchrun. All ranks stop after the same step, which is saved; seconds until none is left."""
    process = start(torchrun(*words, f"root={root}", options=options))
    wait_for_step(root, after, process)
    process.send_signal(number)
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    gone(f"root={root}", 10)
    took = time.monotonic() - begun
    name = signal.Signals(number).name
    at_once = number == signal.SIGUSR1 and not options  # torchrun died of it, and the ranks heard of that by SIGTERM
    assert f"stopped by {'SIGTERM' if at_once else name} after step" in out, out + err
    step = rows(only_run(root))[-1]["step"]
    assert steps_saved(root)[-1] == step
    assert after <= step < 40
    return took


@pytest.mark.stress
@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGTERM, ()), (signal.SIGINT, ()), (signal.SIGUSR1, ()), (signal.SIGUSR1, (HANDLED,))],
)
def test_f10_f11_signals_to_the_launcher(words: list[str], whole: Path, tmp_path: Path, number: int, options: tuple):
    took = stop_launcher(words, tmp_path, number, 12, options)
    print(f"{signal.Signals(number).name} {options}: {took:.1f} s")
    run(torchrun(*words, f"root={tmp_path}"))
    assert_same(only_run(tmp_path), whole)


@pytest.mark.stress
@pytest.mark.parametrize("rank", [0, 1])
def test_f8_either_rank_killed(words: list[str], whole: Path, tmp_path: Path, rank: int):
    print(f"rank {rank} killed: {lose_a_rank(words, tmp_path, 10, rank):.1f} s")
    run(torchrun(*words, f"root={tmp_path}"))
    assert_same(only_run(tmp_path), whole)


@pytest.mark.stress
@pytest.mark.parametrize("rank", [0, 1])
def test_f9_a_rank_that_hangs(words: list[str], whole: Path, tmp_path: Path, rank: int):
    """It is given up after train.timeout, and torchrun kills it another 30 seconds later (--shutdown-timeout)."""
    timeout = 5
    process = start(torchrun(*words, f"root={tmp_path}", f"train.timeout={timeout}", fault=True), f"hang:{rank}:17")
    wait_for_step(tmp_path, 17, process)
    begun = time.monotonic()
    assert process.wait(120) == 1
    gone(f"root={tmp_path}", 5)
    took = time.monotonic() - begun
    process.communicate()
    print(f"rank {rank} hung: {took:.1f} s with train.timeout={timeout}")
    assert took < timeout + 40
    run(torchrun(*words, f"root={tmp_path}"))
    assert_same(only_run(tmp_path), whole)
