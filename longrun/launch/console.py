"""Console output of a sweep: a line when a job starts or ends, the running jobs on a terminal, a final table."""

import shutil
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

REFRESH = 1.0  # seconds between two status lines


class Console:
    """Prints the state of `jobs`, a list of `sweep.Job`."""

    def __init__(self, jobs: Sequence[Any]):
        self.jobs = jobs
        self.terminal = sys.stdout.isatty()
        self.width = min(50, max(len(job.label) for job in jobs))
        self.refreshed = 0.0

    def begin(self) -> None:
        waiting = [job for job in self.jobs if job.state == "waiting"]
        if len(waiting) < len(self.jobs):
            self.say(f"{len(self.jobs) - len(waiting)} of {len(self.jobs)} runs are finished or named twice")
        if waiting:
            self.say(f"{len(waiting)} runs to go; their output: {waiting[0].log.parent}/")

    def started(self, job: Any) -> None:
        self.say(f"{self.number(job)} start   {job.label}")

    def closed(self, job: Any) -> None:
        self.say(f"{self.number(job)} {job.state:7} {job.label:{self.width}}  {result(job)}  {duration(job.seconds)}")
        if job.state == "failed":
            for line in last_lines(job.log):
                self.say(f"        | {line}")

    def status(self) -> None:
        """Rewrite one line in place with the step and the loss of every running job. Only on a terminal."""
        if not self.terminal or time.monotonic() - self.refreshed < REFRESH:
            return
        self.refreshed = time.monotonic()
        running = []
        for job in self.jobs:
            if job.state == "running":
                row = job.tail()
                step = f"{row['step']}/{job.config.train.steps} loss {row['loss']:.2f}" if row else "starting"
                running.append(f"{job.label}: {step}")
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write("\r\x1b[K" + " | ".join(running)[:width])
        sys.stdout.flush()

    def end(self) -> None:
        """Print the table of all runs."""
        self.say(f"\n{'run':{self.width}}  {'state':16}  {'bits/byte':>9}  {'time':>7}")
        for job in self.jobs:
            time_taken = duration(job.seconds) if job.seconds else ""
            self.say(f"{job.label:{self.width}}  {job.state:16}  {score(job):>9}  {time_taken:>7}")
        unfinished = [job for job in self.jobs if job.state in ("failed", "interrupted", "not started")]
        if unfinished:
            self.say(f"\n{len(unfinished)} of {len(self.jobs)} runs are not finished. The same command continues them.")
            for job in unfinished:
                if job.log.is_file():
                    self.say(f"  {job.log}")

    def number(self, job: Any) -> str:
        """`[3/9]`."""
        digits = len(str(len(self.jobs)))
        return f"[{self.jobs.index(job) + 1:{digits}}/{len(self.jobs)}]"

    def say(self, line: str) -> None:
        print(("\r\x1b[K" if self.terminal else "") + line, flush=True)


def score(job: Any) -> str:
    """Validation bits per byte of a finished run."""
    value = (job.folder.summary() or {}).get("valid_bits_per_byte")
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def result(job: Any) -> str:
    """The validation loss of a finished run, else its exit code or signal."""
    if job.state == "done":
        return f"{score(job)} bits/byte" if score(job) else ""
    return f"exit code {job.code}" if job.code >= 0 else f"killed by {signal.Signals(-job.code).name}"


def last_lines(log: Any, count: int = 4) -> list[str]:
    """The last lines of a log file that are not empty."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return [line for line in lines if line.strip()][-count:]


def duration(seconds: float) -> str:
    """`41 s`, `3:07`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
