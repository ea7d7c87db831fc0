"""Shared parts of the benchmark: shapes, work in FLOPs, and interleaved timing, which is robust to a drifting machine.

Each round runs every entry once, in turn; only medians and their ratios within one run are reported. The ceiling is a
matrix product in the selected precision, timed in the same rounds.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model.precision import autocast, resolve

Work = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """A model and its batch: `batch` sequences of `length` tokens."""

    layers: int
    width: int
    heads: int
    length: int
    batch: int
    vocabulary: int

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    @property
    def model(self) -> dict[str, int]:
        """Options of `ModelConfig`."""
        return {"layers": self.layers, "width": self.width, "heads": self.heads}

    def __str__(self) -> str:
        return (
            f"{self.layers} layers, width {self.width}, {self.heads} heads, T={self.length}, batch {self.batch}, "
            f"vocabulary {self.vocabulary:,}"
        )


SHAPES = {
    "tiny": Shape(2, 32, 2, 32, 2, 384),  # for tests
    "small": Shape(6, 256, 4, 256, 16, 4096),
    "medium": Shape(6, 256, 4, 1024, 4, 4096),  # as small, at a length where attention takes a large share
    "large": Shape(12, 768, 12, 512, 2, 50304),
}


def flops_per_token(model: nn.Module, shape: Shape) -> float:
    """Floating-point operations per token that a training step requires.

    A matrix element that multiplies every token costs 2 in the forward pass and 4 in the backward pass: 6 per element
    of a layer's matrices and of the output matrix, tied or not. Causal attention requires half of q k^T and half of
    p v: 2 T D in the forward pass of a layer, 6 T D in all. Embeddings, norms, biases, position encodings and
    recomputation are not counted.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and not name.startswith("encodings")]
    inside = sum(p.numel() for p in matrices if id(p) not in embeddings and shape.vocabulary not in p.shape)
    output = shape.vocabulary * shape.width
    return 6.0 * (inside + output) + 6.0 * shape.layers * shape.length * shape.width


def ceiling(shape: Shape, precision: str, device: torch.device) -> tuple[float, dict[str, Work]]:
    """FLOPs of one entry, and the entries to time: products as in the feed-forward block, and large square ones.

    Both have the same number of operations, at least 2 GFLOP; the faster of them is the ceiling.
    """
    dtype = torch.bfloat16 if resolve(precision, device) == "bf16" else torch.float32
    rows, width = min(shape.tokens, 4096), shape.width
    sides = {"as in the feed-forward block": (rows, width, 4 * width), "square": (1024, 1024, 1024)}
    flops = 2.0 * max(2**30, rows * width * 4 * width)
    works: dict[str, Work] = {}
    for name, (m, k, n) in sides.items():
        a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(k, n, device=device, dtype=dtype)
        times = max(1, round(flops / (2.0 * m * k * n)))
        works[name] = _products(a, b, times, precision, flops / (2.0 * m * k * n * times))
    return flops, works


def _products(a: torch.Tensor, b: torch.Tensor, times: int, precision: str, correction: float) -> Work:
    def run() -> float:
        with autocast(precision, a.device):  # sets the precision of float32 products
            for _ in range(times):
                torch.mm(a, b)
        return correction

    return run


def interleaved(
    entries: Mapping[str, Work], rounds: int, device: torch.device, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each entry in each round, after `warmup` rounds that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    collecting = gc.isenabled()
    gc.collect()  # before the clock starts, so that no entry pays for it
    gc.disable()
    try:
        for number in range(-warmup, rounds):
            for name, work in entries.items():
                synchronise(device)
                start = time.perf_counter()
                work()
                synchronise(device)
                if number >= 0:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        if collecting:
            gc.enable()
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(rounds) for name, rounds in seconds.items()}


def spread(seconds: list[float]) -> float:
    """Half of the interquartile range, as a share of the median."""
    if len(seconds) < 3:
        return 0.0
    first, middle, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return (third - first) / 2 / middle


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
