"""python -m scripts.bench: speed and memory of every scheme and of other libraries, in interleaved runs.

    python -m scripts.bench                                          all parts for some schemes, a few minutes
    python -m scripts.bench --part training --schemes all            the training step of every scheme
    python -m scripts.bench --part training --shape large --precision bf16 --compile
    python -m scripts.bench --part evaluation --lengths 8192,16384   tokens/s and peak memory at these lengths
    python -m scripts.bench --part evaluation --schemes all --lengths 16384 --rounds 0    peak memory of every scheme
    python -m scripts.bench --part none --json docs/benchmarks.json --write docs/benchmarks.md

Quoted are medians, and ratios within one run: the speed of a shared machine drifts. Results are added to the file of
--json (a run with the same settings on the same machine takes the place of the older one), and pages are rendered from
that file. What is measured, and how, stands at the top of scripts/bench_<part>.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from longrun.base.errors import ConfigError
from longrun.bench import data as bench_data
from longrun.bench import evaluation as bench_evaluation
from longrun.bench import generation as bench_generation
from longrun.bench import page
from longrun.bench import protocols as bench_protocols
from longrun.bench import training as bench_training
from longrun.bench.results import Results, where
from longrun.bench.timing import SHAPES
from longrun.config.cli import guarded
from longrun.training.malloc import keep_freed_memory
from model.pe.registry import names

SCHEMES = "nope,rope,alibi,t5,kerple_log,fire"
LENGTHS = "1024,4096,16384"
Row = dict[str, object]


def training(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    job = bench_training.Training(
        SHAPES[options.shape], options.schemes, options.precision, options.compile, options.optimizer,
        not options.no_peers, options.rounds or 5,
    )  # fmt: skip
    yield bench_training.run(job, device)


def evaluation(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    for scheme in options.schemes:  # each on its own: hours for all of them, and none is lost
        job = bench_evaluation.Evaluation(
            SHAPES[options.shape], (scheme,), options.lengths, options.precision,
            2 if options.rounds is None else options.rounds, options.limit,
        )  # fmt: skip
        yield bench_evaluation.run(job, device)


def protocols(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    job = bench_protocols.Protocols(SHAPES[options.shape], precision=options.precision, rounds=options.rounds or 2)
    yield bench_protocols.run(job, device)


def generation(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    prompts = (16, 32) if options.shape == "tiny" else (128, 1024)
    job = bench_generation.Generation(
        SHAPES[options.shape], options.schemes, prompts, precision=options.precision, rounds=options.rounds or 2
    )
    yield bench_generation.run(job, device)


def data(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    size = {"megabytes": 0.1, "vocabulary": 300} if options.shape == "tiny" else {}
    job = bench_data.Data(SHAPES[options.shape], precision=options.precision, rounds=options.rounds or 5, **size)
    yield bench_data.run(job, device)


Part = tuple[Callable[[argparse.Namespace, torch.device], Iterator[Row]], Callable[[Row], list[str]]]
PARTS: dict[str, Part] = {
    "training": (training, bench_training.show),
    "evaluation": (evaluation, bench_evaluation.show),
    "protocols": (protocols, bench_protocols.show),
    "generation": (generation, bench_generation.show),
    "data": (data, bench_data.show),
}


def main(arguments: list[str] | None = None) -> int:
    options = read(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = Results.read(options.json)
    for part in options.part:
        measure, show = PARTS[part]
        for result in measure(options, device):
            print("\n".join(show(result)), flush=True)
            results = Results.read(options.json)  # again: another process may have added to it in the meantime
            results.add(part, where(device, options.threads), result)
            results.write(options.json)
    if options.write is not None:
        page.write(options.write, results.runs)
        print(f"written: {options.write}")
    return 0


def read(arguments: list[str] | None) -> argparse.Namespace:
    """The options, with lists in place of what commas separate. Raises ConfigError."""
    options = _parser().parse_args(arguments)
    every = names()
    options.schemes = tuple(every if options.schemes == "all" else options.schemes.split(","))
    options.part = [] if options.part == "none" else list(PARTS) if options.part == "all" else options.part.split(",")
    for what, given, known in (("schemes", options.schemes, every), ("part", options.part, [*PARTS, "all", "none"])):
        for name in given:
            if name not in known:
                raise ConfigError(f"--{what} {name}: unknown.\nThere are: {', '.join(known)}")
    try:
        options.lengths = tuple(sorted({int(word) for word in options.lengths.split(",")}))
    except ValueError:
        raise ConfigError(f"--lengths {options.lengths}: expected whole numbers.\nTry --lengths {LENGTHS}") from None
    if min(options.lengths) < 1 or options.threads < 1:
        raise ConfigError("--lengths and --threads: expected 1 or more.")
    if options.write is not None and not options.write.is_file():
        raise ConfigError(
            f"--write {options.write}: there is no such page.\nIts text around the figures is kept by hand."
        )
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default="all", help=f"all, none, or some of: {', '.join(PARTS)}")
    parser.add_argument("--schemes", default=SCHEMES, help=f"names separated by commas, or all; else {SCHEMES}")
    parser.add_argument("--shape", default="small", choices=tuple(SHAPES), help="of the model and the batch")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "fp32_medium", "bf16"))
    parser.add_argument("--compile", action="store_true", help="training: torch.compile, ours and theirs")
    parser.add_argument("--optimizer", action="store_true", help="training: with AdamW's update, ours and theirs")
    parser.add_argument("--no-peers", action="store_true", help="training: without other libraries")
    parser.add_argument("--lengths", default=LENGTHS, help="evaluation: tokens, separated by commas")
    parser.add_argument("--limit", type=float, default=120.0, help="evaluation: seconds for one scheme, about")
    parser.add_argument(
        "--rounds", type=int, help="how often each entry is timed; else 5 or 2; evaluation: 0 = memory only"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path("runs/bench/results.json"), help="the file of results")
    parser.add_argument("--write", type=Path, help="renew the figures of this page from the file of results")
    return parser


if __name__ == "__main__":
    keep_freed_memory()  # as train.py and eval.py do; to the good of the other libraries too
    sys.exit(guarded(main))
