"""Whether a training run is worth compiling."""

import shutil
import warnings
from dataclasses import dataclass
from functools import cache

import torch

from model.errors import ModelError

COMPILERS = ("c++", "g++", "clang++", "cl")


@dataclass(frozen=True)
class Cost:
    """What torch.compile takes and gives on a kind of device.

    seconds: of compiling.  gain: share of a step's time that it saves.  flops: a second, of the step without it.
    launches: seconds that a layer takes at least, however small it is.
    """

    seconds: float
    gain: float
    flops: float
    launches: float


# CPU: measured on two cores, 10 to 40 s for a saving of 8 to 10 % of a step in float32 and 10 to 25 % in bf16 (docs/
# benchmarks.md). A core does 0.1 TFLOP/s. CUDA: careful guesses on the side of not compiling; nothing of ours has been
# measured there.
CPU = Cost(seconds=40.0, gain=0.1, flops=1e11, launches=0.0)
CUDA = Cost(seconds=90.0, gain=0.2, flops=3e14, launches=2e-3)


def worth_compiling(
    wanted: bool | str, device: torch.device, steps: int, tokens: int, parameters: int, layers: int
) -> bool:
    """What `train.compile` says, with `auto` decided: yes if the run saves more time than compiling costs.

    A step of `tokens` tokens takes 6 FLOPs a token and parameter, at the speed of the device. `steps` are those of the
    whole run, also where it goes on: compiled code rounds otherwise, and a run that was cut off shall end with the same
    bits.
    On other devices than CPU and CUDA, and where a small function cannot be compiled: no.
    Raises ModelError for `true` where there is no compiler.
    """
    able = device.type == "cuda" or any(map(shutil.which, COMPILERS))
    if wanted is True and not able:
        raise ModelError(
            "train.compile=true needs a C++ compiler, and there is none on the PATH.\n"
            "Install g++ or clang++, or set train.compile=auto: it compiles where that is possible and pays."
        )
    if wanted != "auto":
        return bool(wanted)
    if not able or device.type not in ("cpu", "cuda"):
        return False
    cost = CUDA if device.type == "cuda" else CPU
    cores = torch.get_num_threads() if device.type == "cpu" else 1
    step = max(6.0 * parameters * tokens / (cost.flops * cores), cost.launches * layers)
    return steps * step * cost.gain > cost.seconds and compiles(device)


@cache
def compiles(device: torch.device) -> bool:
    """Whether a small function can be compiled here. If not (headers are missing, or a place to write to, or the
    compiler is too old), a warning says why: training goes on without."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(f"train.compile=auto does not compile on {device}: {reason}", stacklevel=2)
        return False
    return True
