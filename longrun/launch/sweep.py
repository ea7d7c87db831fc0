"""The jobs of a sweep, one process each. A failing job does not affect the others; a finished run is not repeated."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longrun.config.schema import TrainConfig
from longrun.launch.console import Console
from longrun.launch.slots import Slot, slots
from longrun.runs.run_folder import RunFolder

POLL = 0.1  # seconds between two checks of the running jobs


@dataclass
class Job:
    """One run of a sweep.

    state: waiting, running, done, failed, interrupted; already finished, same run, not started.
    """

    words: list[str]
    config: TrainConfig
    label: str = ""
    group: str | None = None  # in wandb; None: the run's own
    state: str = "waiting"
    code: int = 0
    started: float = 0.0
    seconds: float = 0.0
    process: Any = field(default=None, repr=False)

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.config)

    @property
    def log(self) -> Path:
        return Path(self.config.root) / "logs" / f"{self.folder.path.name}.log"

    def tail(self) -> dict[str, Any]:
        """The newest training row of the run, {} if there is none yet."""
        try:
            with (self.folder.path / "metrics.jsonl").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
                lines = file.read().splitlines()
        except OSError:
            return {}
        for line in reversed(lines):
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if "loss" in row:
                    return row
        return {}


class Sweep:
    """Runs jobs in slots. `jobs` are (overrides, checked configuration) pairs."""

    def __init__(
        self,
        jobs: Sequence[tuple[list[str], TrainConfig]],
        slots: int | None = None,
        nproc: int = 1,
        grace: float = 30.0,
        flags: Sequence[str] = (),
    ):
        self.jobs = [Job(words, config) for words, config in jobs]
        set_group(self.jobs)
        self.slots, self.nproc, self.grace, self.flags = slots, nproc, grace, list(flags)
        set_labels(self.jobs)
        self.console = Console(self.jobs)

    def run(self) -> int:
        """Run the unfinished jobs. Exit code: 0, 1 if a job failed, 2 if all were refused, 130 after Ctrl-C."""
        skip(self.jobs)
        waiting = [job for job in self.jobs if job.state == "waiting"]
        self.console.begin()
        code = 0
        if waiting:
            first = waiting[0].config.train
            free = slots(len(waiting), self.slots, self.nproc, first.threads, first.device)
            try:
                with terminations_interrupt():
                    self.work(waiting, free)
            except KeyboardInterrupt:
                code = 130
            finally:
                self.stop()
        self.console.end()
        return code or exit_code(self.jobs)

    def work(self, waiting: list[Job], free: list[Slot]) -> None:
        """Run the waiting jobs in the free slots until all have ended."""
        running: list[tuple[Job, Slot]] = []
        while waiting or running:
            while waiting and free:
                job, slot = waiting.pop(0), free.pop(0)
                self.start(job, slot)
                running.append((job, slot))
            time.sleep(POLL)
            for job, slot in list(running):
                if job.process.poll() is not None:
                    running.remove((job, slot))
                    free.append(slot)
                    self.close(job)
            self.console.status()

    def start(self, job: Job, slot: Slot) -> None:
        """Start the job in a session of its own, so that Ctrl-C on the terminal does not reach it directly."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | slot.environment(job.config.train.threads)
        with job.log.open("ab") as log:
            job.process = subprocess.Popen(
                command(job, self.flags, self.nproc),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        job.state, job.started = "running", time.monotonic()
        self.console.started(job)

    def close(self, job: Job, interrupted: bool = False) -> None:
        """Record the end of a job."""
        job.code = job.process.returncode
        job.seconds = time.monotonic() - job.started
        failed = "interrupted" if interrupted else "failed"
        job.state = "done" if job.code == 0 and job.folder.finished else failed
        if job.state == "failed" and job.code == 0:
            job.code = 1  # it exited with 0 and without `done`
        self.console.closed(job)

    def stop(self) -> None:
        """Stop the running jobs: SIGTERM, `grace` seconds to save, then SIGKILL. A second Ctrl-C kills at once."""
        running = [job for job in self.jobs if job.state == "running"]
        for job in running:
            if job.process.poll() is None:
                job.process.send_signal(signal.SIGTERM)  # torchrun forwards it to its workers
        deadline = time.monotonic() + self.grace
        try:
            while any(job.process.poll() is None for job in running) and time.monotonic() < deadline:
                time.sleep(POLL)
        except KeyboardInterrupt:
            pass
        for job in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()
            self.close(job, interrupted=True)
        for job in self.jobs:
            job.state = "not started" if job.state == "waiting" else job.state


def command(job: Job, flags: list[str], nproc: int) -> list[str]:
    """The command line of one job: this program again, for several processes through torchrun."""
    script = str(Path(sys.modules["__main__"].__file__ or sys.argv[0]).resolve())
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}"] if nproc > 1 else []
    group = [f"++tracker.group={job.group}"] if job.group else []
    return [sys.executable, *torchrun, script, *flags, *job.words, *group]


def set_labels(jobs: list[Job]) -> None:
    """Label each job with the overrides that not all jobs share."""
    common = set(jobs[0].words).intersection(*(job.words for job in jobs[1:]))
    for job in jobs:
        own = [word.lstrip("+") for word in job.words if word not in common]
        job.label = " ".join(own) if own and len(jobs) > 1 else job.folder.path.name


def set_group(jobs: list[Job]) -> None:
    """Give all jobs of the sweep one wandb group, which stays the same when the sweep is launched again."""
    names = " ".join(sorted(job.folder.path.name for job in jobs))
    group = f"sweep-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
    for job in jobs:
        if len(jobs) > 1 and job.config.tracker.group is None:
            job.group = group


def skip(jobs: list[Job]) -> None:
    """Mark the jobs that need no process: finished runs, and jobs with the run folder of an earlier job."""
    seen: set[Path] = set()
    for job in jobs:
        if job.folder.path in seen:
            job.state = "same run"
        elif job.folder.finished:
            job.state = "already finished"
        seen.add(job.folder.path)


def exit_code(jobs: list[Job]) -> int:
    """0 if all jobs have ended well, 2 if all were refused, else 1."""
    failed = [job for job in jobs if job.state in ("failed", "interrupted", "not started")]
    if failed and len(failed) == len(jobs) and all(job.code == 2 for job in failed):
        return 2
    return 1 if failed else 0


@contextlib.contextmanager
def terminations_interrupt() -> Iterator[None]:
    """SIGTERM ends a sweep the way Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
