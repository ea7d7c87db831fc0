"""metrics.jsonl is whole after every kind of end, and wandb can neither stop a run nor slow it down."""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_configs import ROOT, config

from longrun.runs.metrics import Metrics, read
from longrun.runs.run_folder import RunFolder
from longrun.tracking.console import Progress, figures
from longrun.tracking.tracker import Tracker
from longrun.tracking.wandb_metrics import curve_point

# The real wandb in a process of its own: trains `count` pretended runs, breaking wandb in the middle if told so.
WANDB = """
import json, sys, time
from longrun.tracking.tracker import Tracker
from longrun.runs.run_folder import RunFolder
from tiny_configs import config

root, mode, count, broken = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "broken"
seen = []

def plain(items):
    return [(k, v) for k, v in items if isinstance(v, float | int | str) and k[0] != "_"]

for seed in range(count):
    one = config(f"seed={seed} root={root} tracker={mode} train.steps=3 pe.base={1000 + seed}")
    folder = RunFolder.of(one)
    folder.create(one)
    begun = time.monotonic()
    with Tracker(one, folder, run_info={"parameters": 5}) as tracker:
        delay = time.monotonic() - begun
        tracker.resume(0)
        run = tracker.wandb.run
        for step in (1, 2, 3):
            if broken and step == 2:
                run.finish()  # from here on, every call of wandb raises
            tracker.train({"step": step, "tokens": 9, "loss": 1.0 / step, "lr": 0.1, "grad_norm": 1.0})
        rows = [{"length": 8, "ppl": 3.0, "nll": 1.1, "bits_per_byte": 1.0}, {"length": 16, "refused": "no"}]
        tracker.curves([{"protocol": "fixed_targets", "extension": "none", "train_length": 8, "rows": rows}])
        seen.append({"delay": delay, "id": run.id, "base": run.config["pe"]["base"], "group": run.group,
                     "parameters": run.config["parameters"], "tags": list(run.tags), "offline": run.offline,
                     "summary": {} if broken else dict(plain(dict(run.summary).items()))})
print(json.dumps(seen))
"""


def row(step: int, **more: float) -> dict:
    return {"step": step, "tokens": step * 10, "loss": 1.0 / step, **more}


def steps(path: Path) -> list[int]:
    return [found["step"] for found in read(path)]


def filled(path: Path, count: int) -> Metrics:
    metrics = Metrics(path)
    metrics.resume(0)
    for step in range(1, count + 1):
        metrics.append(row(step))
    return metrics


def test_rows_are_there_as_soon_as_they_are_appended(tmp_path: Path):
    metrics = filled(tmp_path / "metrics.jsonl", 3)
    assert read(tmp_path / "metrics.jsonl") == metrics.rows == [row(1), row(2), row(3)]


@pytest.mark.parametrize("step", [0, 1, 5, 10, 99])
def test_resuming_keeps_rows_up_to_the_step(tmp_path: Path, step: int):
    path = tmp_path / "metrics.jsonl"
    filled(path, 10).close()
    metrics = Metrics(path)
    metrics.resume(step)
    kept = min(step, 10)
    for later in range(kept + 1, 13):
        metrics.append(row(later))
    assert steps(path) == list(range(1, 13))


@pytest.mark.parametrize("cut", range(1, 30, 3))
def test_a_torn_last_line_is_not_a_row(tmp_path: Path, cut: int):
    path = tmp_path / "metrics.jsonl"
    filled(path, 4).close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert steps(path) == [1, 2, 3]
    metrics = Metrics(path)
    metrics.resume(3)
    metrics.append(row(4))
    assert steps(path) == [1, 2, 3, 4]


def test_two_rows_of_one_step_are_both_kept(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    metrics = filled(path, 2)
    metrics.append({"step": 2, "valid_loss": 3.0})
    metrics.resume(2)
    assert [sorted(found) for found in read(path)] == [["loss", "step", "tokens"]] * 2 + [["step", "valid_loss"]]


def test_what_json_lacks_becomes_null(tmp_path: Path):
    metrics = filled(tmp_path / "metrics.jsonl", 1)
    metrics.append({"step": 2, "loss": float("nan"), "grad_norm": float("inf")})
    text = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 2, "loss": None, "grad_norm": None}


def test_a_full_disk_leaves_no_part_of_a_row(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    metrics = filled(path, 3)
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))  # room for ten bytes of the next row
    try:
        with pytest.raises(OSError, match=r"full\?|too large"):
            metrics.append(row(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == size
    metrics.append(row(5))
    assert steps(path) == [1, 2, 3, 5]


def test_other_ranks_know_the_rows_and_write_nothing(tmp_path: Path):
    filled(tmp_path / "metrics.jsonl", 4).close()
    other = Metrics(tmp_path / "metrics.jsonl", write=False)
    other.resume(2)
    other.append(row(3))
    other.sync()
    other.close()
    assert [found["step"] for found in other.rows] == [1, 2, 3]
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]


def test_tracker_writes_rows_and_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one = replace(config("tracker=off train.steps=3"), root=str(tmp_path))
    folder = RunFolder.of(one)
    folder.create(one)
    with Tracker(one, folder) as tracker:
        tracker.resume(0)
        for step in (1, 2, 3):
            tracker.train(row(step, bits_per_byte=1.5, tokens_per_s=31000.0))
        tracker.valid({"step": 3, "valid_loss": 2.0, "valid_bits_per_byte": 1.25})
        tracker.say("the [end] 100%")
        tracker.flush()
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("step 1/3  loss 1.000  1.500 bits/byte  31,000 tokens/s  ")
    assert out[-2:] == ["step 3/3  validation loss 2.000  1.250 bits/byte", "the [end] 100%"]
    assert len(tracker.rows()) == 4
    assert tracker.wandb is None


def test_plain_lines_are_seconds_apart(capsys: pytest.CaptureFixture[str]):
    progress = Progress(1000)
    progress.begin(0)
    for step in range(1, 1000):
        progress.update(row(step))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_bar_on_a_terminal(tmp_path: Path):
    """The real thing on a pseudo-terminal: figures in the bar, and a line above it."""
    import pty

    script = (
        "from longrun.tracking.console import Progress\np = Progress(4)\np.begin(0)\n"
        "p.update({'step': 2, 'loss': 3.25})\np.say('a [line]')\np.end()\n"
    )
    parent, child = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT)}, stdout=child, stderr=child, check=True
    )
    os.close(child)
    shown = os.read(parent, 65536).decode()
    assert "2/4" in shown
    assert "loss 3.250" in shown
    assert "a [line]" in shown


def test_missing_figures_are_left_out():
    assert figures({"step": 1, "loss": None, "bits_per_byte": 1.0}) == "1.000 bits/byte"


def test_points_of_two_protocols_never_share_a_curve():
    base = {"length": 8, "ppl": 2.0}
    names = [
        next(key for key in curve_point({"protocol": protocol, "extension": extension}, base) if key.endswith("ppl"))
        for protocol in ("fixed_targets", "sliding")
        for extension in ("none", "window")
    ]
    assert names[:2] == ["extrapolation/ppl", "extrapolation/window/ppl"]
    assert len(set(names)) == 4


def with_wandb(folder: Path, mode: str, count: int = 1, broken: str = "", **environment: str):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    clean |= {"PYTHONPATH": paths, "HOME": str(folder), "WANDB_ERROR_REPORTING": "false", **environment}
    command = [sys.executable, "-c", WANDB, str(folder / "runs"), mode, str(count), broken]
    done = subprocess.run(command, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines()


def test_wandb_offline_has_the_right_configuration_of_every_run(tmp_path: Path):
    seen, warnings = with_wandb(tmp_path, "offline", count=4)
    assert warnings == []
    assert [one["base"] for one in seen] == [1000.0, 1001.0, 1002.0, 1003.0]
    assert len({one["id"] for one in seen}) == len({one["group"] for one in seen}) == 4
    assert seen[0]["tags"] == ["rope", "L128"]
    assert seen[0]["parameters"] == 5
    summary = seen[0]["summary"]
    assert (summary["loss"], summary["extrapolation/length"], summary["extrapolation/ppl"]) == (1 / 3, 16, 3.0)
    assert len(list((tmp_path / "runs").glob("*/wandb/offline-run-*"))) == 4


def test_wandb_that_raises_is_said_once_and_costs_nothing(tmp_path: Path):
    _, warnings = with_wandb(tmp_path, "offline", broken="broken")
    assert len(warnings) == 1
    assert "metrics.jsonl has everything" in warnings[0]
    (path,) = (tmp_path / "runs").glob("*/metrics.jsonl")
    assert steps(path) == [1, 2, 3]


def test_online_without_a_login_goes_offline(tmp_path: Path):
    (one,), warnings = with_wandb(tmp_path, "online")
    assert one["offline"]
    assert len(warnings) == 1
    assert "writing offline files instead" in warnings[0]


@pytest.mark.slow
def test_online_without_a_server_goes_offline_in_time(tmp_path: Path):
    begun = time.monotonic()
    (one,), warnings = with_wandb(tmp_path, "online", WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert one["offline"]
    assert one["delay"] < 10
    assert len(warnings) == 1
    assert time.monotonic() - begun < 30
