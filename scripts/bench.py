"""python -m scripts.bench: speed and memory of every scheme and of other libraries, in interleaved runs.

    python -m scripts.bench                                          all parts for some schemes, a few minutes
    python -m scripts.bench --part training --schemes all            the training step of every scheme
    python -m scripts.bench --part training --shape large --precision bf16 --compile
    python -m scripts.bench --part evaluation --lengths 8192,16384   tokens/s and peak memory at these lengths
    python -m scripts.bench --part evaluation --schemes all --lengths 16384 --rounds 0    peak memory of every scheme
    python -m scripts.bench --part none --json docs/benchmarks.json --write docs/benchmarks.md

Reported are medians, and ratios within one run, because the speed of a shared machine drifts. Results are added to the
file of --json; a run replaces an older one with the same settings on the same machine. Pages are rendered from that
file. The docstring of longrun/bench/<part>.py describes each measurement.
"""

import argparse
import sys
from pathlib import Path

import torch

from longrun.base.errors import ConfigError
from longrun.bench import page
from longrun.bench.parts import PARTS
from longrun.bench.results import Results, machine_info
from longrun.bench.timing import SHAPES
from longrun.config.cli import guarded
from longrun.training.malloc import keep_freed_memory
from model.pe.registry import names

SCHEMES = "nope,rope,alibi,t5,kerple_log,fire"
LENGTHS = "1024,4096,16384"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = Results.read(options.json)
    for part in options.part:
        measure, format_result = PARTS[part]
        for result in measure(options, device):
            print("\n".join(format_result(result)), flush=True)
            results = Results.read(options.json)  # again: another process may have added to it
            results.add(part, machine_info(device, options.threads), result)
            results.write(options.json)
    if options.write is not None:
        page.write(options.write, results.runs)
        print(f"written: {options.write}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options, with tuples in place of comma-separated text. Raises ConfigError."""
    options = _parser().parse_args(arguments)
    every = names()
    options.schemes = tuple(every if options.schemes == "all" else options.schemes.split(","))
    options.part = [] if options.part == "none" else list(PARTS) if options.part == "all" else options.part.split(",")
    for key, values, choices in (
        ("schemes", options.schemes, every), ("part", options.part, [*PARTS, "all", "none"]),
    ):  # fmt: skip
        for value in values:
            if value not in choices:
                raise ConfigError(f"--{key} {value}: unknown.\nThere are: {', '.join(choices)}")
    try:
        options.lengths = tuple(sorted({int(word) for word in options.lengths.split(",")}))
    except ValueError:
        raise ConfigError(f"--lengths {options.lengths}: expected whole numbers.\nTry --lengths {LENGTHS}") from None
    if min(options.lengths) < 1 or options.threads < 1:
        raise ConfigError("--lengths and --threads: expected 1 or more.")
    if options.write is not None and not options.write.is_file():
        raise ConfigError(f"--write {options.write}: no such page.\nThe text around its tables is written by hand.")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default="all", help=f"all, none, or some of: {', '.join(PARTS)}")
    parser.add_argument("--schemes", default=SCHEMES, help=f"names separated by commas, or all; default: {SCHEMES}")
    parser.add_argument("--shape", default="small", choices=tuple(SHAPES), help="of the model and the batch")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "fp32_medium", "bf16"))
    parser.add_argument("--compile", action="store_true", help="training: torch.compile, for every entry")
    parser.add_argument("--optimizer", action="store_true", help="training: with AdamW's update, for every entry")
    parser.add_argument("--no-peers", action="store_true", help="training: without other libraries")
    parser.add_argument("--lengths", default=LENGTHS, help="evaluation: tokens, separated by commas")
    parser.add_argument("--limit", type=float, default=120.0, help="evaluation: approximate seconds per scheme")
    parser.add_argument("--rounds", type=int, help="rounds per entry; default: 5 or 2; evaluation: 0 = memory only")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path("runs/bench/results.json"), help="the file of results")
    parser.add_argument("--write", type=Path, help="update the tables of this page from the file of results")
    return parser


if __name__ == "__main__":
    keep_freed_memory()  # as train.py and eval.py do; other libraries benefit too
    sys.exit(guarded(main))
