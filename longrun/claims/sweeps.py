"""Training and evaluation of the experiments, each as one sweep of train.py in a child process."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from longrun.base.paths import ROOT
from longrun.claims.evidence import Experiment, runs_folder

SHUTDOWN_TIMEOUT = 60  # seconds for saving, after the time limit
STOPPED = 130  # exit code: the time limit or Ctrl-C


def run_sweeps(selected: list[Experiment], size: str, root: Path | None, minutes: float | None) -> int:
    """Run the sweeps one after the other; finished runs are skipped, so a second call continues.

    Returns 0, STOPPED after the time limit or an interrupt, else the exit code of the last sweep that failed.
    """
    deadline = time.monotonic() + 60 * minutes if minutes else None
    failed = 0
    for experiment in selected:
        process = subprocess.Popen(sweep_command(experiment, size, root), cwd=ROOT)
        try:
            code = process.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signal.SIGTERM)  # the sweep forwards it, and its jobs save
            process.wait(SHUTDOWN_TIMEOUT)
            return STOPPED
        failed = code or failed
    return failed


def sweep_command(experiment: Experiment, size: str, root: Path | None) -> list[str]:
    scale = experiment.scale_for(size)
    folder = [] if root is None else [f"root={runs_folder(scale, root.resolve())}"]
    return [sys.executable, "train.py", "-m", f"experiment={experiment.name}", f"scale={scale}", *folder]
