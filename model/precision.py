"""In which number format the matrix products are computed. Weights, softmax, norms and losses stay float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import overload

import torch
from torch import Tensor

WITHOUT_FLOAT64 = {"mps"}  # types of devices


def resolve(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the hardware multiplies it natively, else fp32. (float16 is never used: on CPUs it is
    15 times slower than bf16.)"""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    abilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Around a forward pass. precision: auto, fp32, fp32_medium (float32 tensors, products in bf16 or tf32), bf16."""
    chosen = resolve(precision, device)
    torch.set_float32_matmul_precision("medium" if chosen == "fp32_medium" else "highest")
    return torch.autocast(device.type, torch.bfloat16) if chosen == "bf16" else nullcontext()


@overload
def exact_device(device: torch.device) -> torch.device: ...
@overload
def exact_device(device: torch.device | None) -> torch.device | None: ...
def exact_device(device: torch.device | None) -> torch.device | None:
    """Where float64 numbers that belong on `device` are computed: there, or on the CPU if it has none (Apple's MPS)."""
    return torch.device("cpu") if device is not None and device.type in WITHOUT_FLOAT64 else device


def exact(x: Tensor) -> Tensor:
    """x in float64, on its device or where `exact_device` has it: results go back with .float().to(x.device)."""
    return x.to(exact_device(x.device)).double()
