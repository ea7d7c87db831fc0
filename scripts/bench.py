"""python -m scripts.bench: the training step of schemes and kernels against each other, in one interleaved run.

    python -m scripts.bench                                   every scheme with its best kernel, and NoPE with each
    python -m scripts.bench --schemes nope,rope,alibi,t5 --length 1024 --batch 4

Each round times every entry once, in turn; quoted are medians, and ratios of medians within the run, because the speed
of a shared machine drifts. The ceiling is a matrix product of the feed-forward block's shape, timed in the same rounds.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from model import build
from model.pe.registry import names
from model.precision import autocast, resolve

SHAPES = {"layers": 6, "width": 256, "heads": 4}


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    schemes = options.schemes.split(",") if options.schemes else ["nope", "rope", "alibi", "t5", "kerple_log", "fire"]
    entries: dict[str, Callable[[], None]] = {}
    for scheme in names() if options.schemes == "all" else schemes:
        entries[scheme] = step(scheme, "auto", options, device)
    entries["nope, SDPA"] = step("nope", "flash", options, device)
    entries["nope, chunked"] = step("nope", "chunked", options, device)
    flops, product = ceiling(options, device)
    seconds = interleaved({**entries, "matrix product": product}, options.rounds, device)
    result = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "precision": resolve(options.precision, device),
        **{key: getattr(options, key) for key in ("length", "batch", "vocabulary", "threads", "rounds")},
        "ceiling_gflops": flops / seconds.pop("matrix product") / 1e9,
        "tokens_per_s": {name: options.batch * options.length / value for name, value in seconds.items()},
    }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def step(scheme: str, kernel: str, options: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """Forward and backward of a model of its own; the optimizer is the same for all and left out."""
    model = build(options.vocabulary, options.length, SHAPES, scheme).to(device)
    model.kernel = kernel
    tokens = torch.randint(options.vocabulary, (options.batch, options.length + 1), device=device)

    def run() -> None:
        with autocast(options.precision, device):
            loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        model.zero_grad(set_to_none=True)

    return run


def ceiling(options: argparse.Namespace, device: torch.device) -> tuple[float, Callable[[], None]]:
    """Floating-point operations of a matrix product, and the product."""
    rows, width, hidden = options.batch * options.length, SHAPES["width"], 4 * SHAPES["width"]
    dtype = torch.bfloat16 if resolve(options.precision, device) == "bf16" else torch.float32
    a, b = torch.randn(rows, width, device=device, dtype=dtype), torch.randn(width, hidden, device=device, dtype=dtype)

    def run() -> None:
        for _ in range(20):
            a @ b

    return 20 * 2.0 * rows * width * hidden, run


def interleaved(entries: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each entry; the first round is a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in entries}
    for number in range(rounds + 1):
        for name, run in entries.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def show(result: dict) -> None:
    rates = result["tokens_per_s"]
    print(
        f"{result['precision']}, T={result['length']}, batch {result['batch']}, {result['threads']} threads, "
        f"torch {result['torch']}; matrix product {result['ceiling_gflops']:.0f} GFLOP/s"
    )
    for name, rate in rates.items():
        print(f"{name:<24} {rate:10,.0f} tokens/s   {rate / rates['nope, SDPA']:.2f} of NoPE with SDPA")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--schemes", help="names separated by commas, or all")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "fp32_medium", "bf16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
