"""The number format of matrix products. Weights, softmax, norms and losses stay float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import overload

import torch
from torch import Tensor

WITHOUT_FLOAT64 = {"mps"}  # device types


def resolve(precision: str, device: torch.device) -> str:
    """Replace `auto` by bf16 where the hardware multiplies it natively, else by fp32. (float16 is not used: on CPUs it
    is 15 times slower than bf16.)"""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if features.get("avx512_bf16") or features.get("amx_bf16") else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context manager for a forward pass.

    precision: auto, fp32, fp32_medium (float32 tensors, products in bf16 or tf32), bf16.
    """
    resolved = resolve(precision, device)
    torch.set_float32_matmul_precision("medium" if resolved == "fp32_medium" else "highest")
    return torch.autocast(device.type, torch.bfloat16) if resolved == "bf16" else nullcontext()


@overload
def exact_device(device: torch.device) -> torch.device: ...
@overload
def exact_device(device: torch.device | None) -> torch.device | None: ...
def exact_device(device: torch.device | None) -> torch.device | None:
    """The device for float64 computations: `device`, or the CPU if it has no float64 (Apple's MPS)."""
    return torch.device("cpu") if device is not None and device.type in WITHOUT_FLOAT64 else device


def exact(x: Tensor) -> Tensor:
    """x in float64 on `exact_device`. Move results back with .float().to(x.device)."""
    return x.to(exact_device(x.device)).double()
