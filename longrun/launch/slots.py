"""Slots for the jobs of a sweep: the number of jobs at a time, and the threads and GPUs of each."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field

MAX_JOBS = 8  # jobs at a time by default: each has its own copy of torch in memory


@dataclass(frozen=True)
class Slot:
    """The resources of one job at a time."""

    threads: int
    devices: tuple[str, ...] = field(default=())

    def environment(self, threads: int | None = None) -> dict[str, str]:
        """The environment variables for the processes of a job in this slot."""
        count = str(threads or self.threads)
        variables = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        return variables | ({"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else {})


def slots(jobs: int, count: int | None, nproc: int, threads: int | None, device: str) -> list[Slot]:
    """The slots for `jobs` jobs of `nproc` processes with `threads` threads each (None: all cores are shared out).

    count: the number of slots; None: one per GPU, else one per core.
    """
    gpus = devices() if device in ("auto", "cuda") else []
    if gpus:
        number = count or max(1, len(gpus) // nproc)
    elif platform.system() == "Darwin" and device in ("auto", "mps"):
        number = count or 1
    else:
        number = count or min(MAX_JOBS, max(1, cores() // ((threads or 1) * nproc)))
    number = max(1, min(number, jobs))
    share = threads or max(1, cores() // (number * nproc))
    return [
        Slot(share, tuple(gpus[(i * nproc + k) % len(gpus)] for k in range(nproc)) if gpus else ())
        for i in range(number)
    ]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices() -> list[str]:
    """The usable NVIDIA GPUs, as in CUDA_VISIBLE_DEVICES, determined without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
