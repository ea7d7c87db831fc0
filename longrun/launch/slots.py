"""How many jobs of a sweep run at a time, and which part of the machine each of them gets."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field

MOST = 8  # jobs at a time when nobody said how many: each holds its own copy of torch in memory


@dataclass(frozen=True)
class Slot:
    """A place for one job at a time."""

    threads: int
    devices: tuple[str, ...] = field(default=())

    def environment(self, threads: int | None = None) -> dict[str, str]:
        """What the processes of a job in this slot find in their environment."""
        count = str(threads or self.threads)
        found = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        return found | ({"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else {})


def slots(jobs: int, wanted: int | None, nproc: int, threads: int | None, device: str) -> list[Slot]:
    """The slots for `jobs` jobs of `nproc` processes with `threads` threads each (None: as many as fit)."""
    gpus = devices() if device in ("auto", "cuda") else []
    if gpus:
        number = wanted or max(1, len(gpus) // nproc)
    elif platform.system() == "Darwin" and device in ("auto", "mps"):
        number = wanted or 1
    else:
        number = wanted or min(MOST, max(1, cores() // ((threads or 1) * nproc)))
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
    """The NVIDIA GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; found without torch."""
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
