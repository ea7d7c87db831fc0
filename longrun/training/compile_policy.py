"""The decision to compile a training run: `train.compile`."""

import shutil
import warnings
from dataclasses import dataclass
from functools import cache

import torch

from model.errors import ModelError

COMPILERS = ("c++", "g++", "clang++", "cl")


@dataclass(frozen=True)
class Cost:
    """Cost and gain of torch.compile on a type of device.

    seconds: time of compiling.  gain: share of a step's time that is saved.  flops: FLOPs per second of an eager step.
    launch_overhead: shortest time of a layer in seconds, however small the layer is.
    """

    seconds: float
    gain: float
    flops: float
    launch_overhead: float


# CPU: measured on two cores, 10 to 40 s for a saving of 8 to 10 % of a step in float32 and 10 to 25 % in bf16 (docs/
# benchmarks.md). A core reaches 0.1 TFLOP/s. CUDA: cautious guesses in favour of not compiling; not measured by us.
CPU = Cost(seconds=40.0, gain=0.1, flops=1e11, launch_overhead=0.0)
CUDA = Cost(seconds=90.0, gain=0.2, flops=3e14, launch_overhead=2e-3)


def should_compile(
    setting: bool | str, device: torch.device, steps: int, tokens: int, parameters: int, layers: int
) -> bool:
    """Resolve `train.compile`; `auto` is True if compiling saves more time than it costs.

    A step of `tokens` tokens takes 6 FLOPs per token and parameter. `steps` counts all steps of the run, also when it
    is continued: compiled code rounds differently, and a continued run ends with the same bits.
    `auto` is False on devices other than CPU and CUDA, and where a small function cannot be compiled.
    Raises ModelError for `true` if there is no compiler.
    """
    has_compiler = device.type == "cuda" or any(map(shutil.which, COMPILERS))
    if setting is True and not has_compiler:
        raise ModelError(
            "train.compile=true needs a C++ compiler, and there is none on the PATH.\n"
            "Install g++ or clang++, or set train.compile=auto: it compiles where that is possible and saves time."
        )
    if setting != "auto":
        return bool(setting)
    if not has_compiler or device.type not in ("cpu", "cuda"):
        return False
    cost = CUDA if device.type == "cuda" else CPU
    cores = torch.get_num_threads() if device.type == "cpu" else 1
    step = max(6.0 * parameters * tokens / (cost.flops * cores), cost.launch_overhead * layers)
    return steps * step * cost.gain > cost.seconds and compiles(device)


@cache
def compiles(device: torch.device) -> bool:
    """Compile a small function. Returns False, after a warning with the reason, if that fails (no headers, no writable
    folder, an old compiler)."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(f"train.compile=auto does not compile on {device}: {reason}", stacklevel=2)
        return False
    return True
