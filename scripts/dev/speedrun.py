"""python -m scripts.dev.speedrun [FOLDER] [--write docs/speedrun.md]: how soon runs reach a validation loss.

A line for each configuration, its seeds pooled: optimizer steps, tokens and seconds until a validation was at or below
the target for the first time. Seconds are tokens over the run's median throughput, so validations do not count.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrun.base.errors import ConfigError
from longrun.config.cli import guarded
from longrun.doc_blocks import renew
from longrun.runs.metrics import read
from longrun.runs.run_folder import RunFolder
from scripts.runs import flat, found, outside, shown

TARGET = 1.65  # bits a byte on the validation split


@dataclass(frozen=True)
class Result:
    """One seed of a recipe; tokens: trained on when the target was reached, None if it was not."""

    steps: int | None
    tokens: int | None
    seconds: float | None
    best: float  # lowest validation, in bits a byte


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.dev.speedrun", description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", default="runs/speedrun", help="folder of runs (default: runs/speedrun)")
    parser.add_argument("--target", type=float, default=TARGET, help=f"bits a byte (default: {TARGET})")
    parser.add_argument("--write", type=Path, help="also renew the table of this page")
    options = parser.parse_args(arguments)
    text = table(recipes([run for run in found([options.root]) if run.finished], options.target), options.target)
    print(text)
    if options.write:
        renew(options.write, {"speedrun": lambda: text})
    return 0


def recipes(runs: list[RunFolder], target: float) -> dict[str, list[Result]]:
    """Results by recipe: the values of the keys in which the runs differ. Raises ConfigError if no run is finished."""
    if not runs:
        raise ConfigError("no finished run there.\nTry python train.py -m experiment=speedrun")
    configs = {run: dict(flat(run.config())) for run in runs}
    keys = dict.fromkeys(key for config in configs.values() for key in config if key != "seed" and not outside(key))
    varied = [key for key in keys if len({json.dumps(config.get(key)) for config in configs.values()}) > 1]
    by_recipe = defaultdict(list)
    for run, config in configs.items():
        by_recipe[_named(config, varied)].append(reached(run, target))
    return by_recipe


def reached(run: RunFolder, target: float) -> Result:
    rows = list(read(run.path / "metrics.jsonl"))
    valid = [row for row in rows if row.get("valid_bits_per_byte") is not None]
    rate = statistics.median(row["tokens_per_s"] for row in rows if "tokens_per_s" in row)
    first = next((row for row in valid if row["valid_bits_per_byte"] <= target), None)
    best = min(row["valid_bits_per_byte"] for row in valid)
    if first is None:
        return Result(None, None, None, best)
    return Result(first["step"], first["tokens"], first["tokens"] / rate, best)


def table(results: dict[str, list[Result]], target: float) -> str:
    """Fastest first; those that did not get there last."""
    lines = [
        f"| recipe | seeds | steps to {target:g} bits/byte | tokens | seconds | best |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    ordered = sorted(results.items(), key=lambda item: _mean([each.seconds for each in item[1]]) or float("inf"))
    for recipe, found_ in ordered:
        cells = [
            _range([each.steps for each in found_], "{:,.0f}"),
            _range([each.tokens for each in found_], "{:,.0f}"),
            _range([each.seconds for each in found_], "{:.1f}"),
            _range([each.best for each in found_], "{:.3f}"),
        ]
        lines.append(f"| {recipe} | {len(found_)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(values: list[Any], form: str) -> str:
    """Mean, and the range over seeds in brackets; a dash where a seed has no value."""
    if None in values:
        return "–"
    mean = form.format(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} [{form.format(min(values))}, {form.format(max(values))}]"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _named(config: dict[str, Any], varied: list[str]) -> str:
    """The scheme, and each further key whose value is not the same in all runs; a scheme's own options go unsaid."""
    others = [f"{key}={shown(config.get(key))}" for key in varied if not key.startswith("pe.")]
    return ", ".join([f"`{config['pe.name']}`", *others])


if __name__ == "__main__":
    sys.exit(guarded(main))
