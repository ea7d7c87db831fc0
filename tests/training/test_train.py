"""Real runs of train.py: they learn, resume to the same bits, and do not depend on how many processes share a batch."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from training_runs import ROOT, command, last_step, only_run, rows, run, steps_saved, torchrun, weights, write_corpus


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> list[str]:
    """Overrides that name a small corpus."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def launch(*words: str, expect: int = 0) -> str:
    return run(command(*words), expect)[0]


def test_a_killed_run_ends_with_the_same_bits(text, tmp_path):
    """kill -9 and then SIGTERM at moments of their own choosing, with dropout and accumulation."""
    words = [*text, "pe=t5", "train.steps=60", "train.micro_batch=4", "model.dropout=0.1", "checkpoint.every=4"]
    launch(*words, f"root={tmp_path / 'whole'}")
    whole = only_run(tmp_path / "whole")

    root = tmp_path / "cut"
    for number, expected in ((signal.SIGKILL, -9), (signal.SIGTERM, 128 + signal.SIGTERM)):
        process = subprocess.Popen(command(*words, f"root={root}"), cwd=ROOT, stdout=subprocess.DEVNULL)
        before = last_step(root)
        while process.poll() is None and last_step(root) < before + 7:
            time.sleep(0.01)
        os.kill(process.pid, number)
        assert process.wait(60) == expected
        assert not list(root.glob("*/done"))
    said = launch(*words, f"root={root}")
    assert "continuing" in said
    cut = only_run(root)

    assert rows(cut) == rows(whole)
    for name, tensor in weights(whole).items():
        np.testing.assert_array_equal(weights(cut)[name], tensor, err_msg=name)
    evaluations = [json.loads((run / "eval" / "fixed_targets.json").read_text()) for run in (whole, cut)]
    assert evaluations[0] == evaluations[1]
    assert rows(whole)[-1]["valid_loss"] < 0.8 * np.log(257)  # it learned something

    said = launch(*words, f"root={root}")
    assert "finished" in said
    assert "nothing to do" in said


def test_one_document_is_enough(tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("one two three four five six seven. " * 60)
    launch(f"data.path={path}", f"data.cache={tmp_path / 'c'}", f"root={tmp_path / 'r'}", "train.steps=2")
    assert 0 < rows(only_run(tmp_path / "r"))[-1]["valid_bits_per_byte"] < 12


def test_too_little_text_is_said_before_the_training(text, tmp_path):
    words = [*text, f"root={tmp_path / 'r'}", "train.steps=100000"]
    for more in ("data.valid_fraction=0", "eval.ratios=[1,200]"):
        done = subprocess.run(command(*words, more), capture_output=True, text=True, cwd=ROOT, timeout=120)
        assert done.returncode == 2
        assert "No document of this split has" in done.stderr
        assert "step" not in done.stdout
    assert not list(tmp_path.glob("r/*"))


def test_two_processes_train_what_one_does(text, tmp_path):
    words = [*text, "pe=alibi", "train.steps=20"]
    launch(*words, f"root={tmp_path / 'one'}")
    out, _ = run(torchrun(*words, f"root={tmp_path / 'two'}"))
    assert out.count("finished") == 1
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    assert one.name == two.name
    for a, b in zip(rows(one), rows(two), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    results = [json.loads((run / "eval" / "fixed_targets.json").read_text()) for run in (one, two)]
    assert results[0]["targets_hash"] == results[1]["targets_hash"]
    for a, b in zip(results[0]["rows"], results[1]["rows"], strict=True):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.parametrize("pe", ["rope", "fire"])
def test_fifty_steps_of_two_ranks_are_those_of_one(text, tmp_path, kind: str, pe: str):
    """F13 in the real program too: cut off under one wrapper after 30 steps, continued under the other."""
    words = [*text, f"pe={pe}", "train.steps=50", "checkpoint.every=10"]
    launch(*words, f"root={tmp_path / 'one'}")
    expected = rows(only_run(tmp_path / "one"))
    run(torchrun(*words, f"train.data_parallel={kind}", f"root={tmp_path / 'two'}"))
    cut = [*words, f"root={tmp_path / 'cut'}"]
    run(torchrun(*cut, f"train.data_parallel={kind}", fault=True), expect=1, fault="kill:1:33")
    assert steps_saved(tmp_path / "cut")[-1] == 30
    run(torchrun(*cut, f"train.data_parallel={'ddp' if kind == 'fsdp' else 'fsdp'}"))
    for name in ("two", "cut"):
        found = rows(only_run(tmp_path / name))
        pairs = list(zip(expected, found, strict=True))
        worst = max(abs(one[key] - two[key]) for one, two in pairs for key in ("loss", "valid_loss") if key in one)
        print(f"{pe} {kind} {name}: largest difference of a loss {worst:.1e}")
        assert worst < 1e-5


def test_the_command_line_evaluates_a_run(text, tmp_path):
    launch(*text, "pe=rope", "train.steps=3", "eval_at_end=false", f"root={tmp_path}")
    run = only_run(tmp_path)
    done = subprocess.run(
        [sys.executable, "eval.py", f"run={run}", "protocol=last_k", "k=4", "lengths=[16,32]", "extension=ntk",
         "control=false", "threads=1", "precision=fp32"],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((run / "eval" / "last_k-ntk.json").read_text())
    assert [row["length"] for row in record["rows"]] == [16, 32]
    assert record["extension"] == "ntk"
