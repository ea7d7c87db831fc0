"""python -m scripts.dev.speedrun [FOLDER] [--write docs/speedrun.md]: time in which runs reach a validation loss.

One row per configuration, pooled over seeds: optimizer steps, tokens and seconds until the first validation at or below
the target. Seconds are tokens over the run's median throughput, so the time of validations is excluded.
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
from longrun.doc_blocks import update_blocks
from longrun.runs import metrics
from longrun.runs.listing import find_runs, flatten, format_value, is_unhashed
from longrun.runs.run_folder import RunFolder

TARGET = 1.65  # bits per byte on the validation split


@dataclass(frozen=True)
class SeedResult:
    """One seed of a configuration. `tokens`: trained on when the target was reached, None if it was not."""

    steps: int | None
    tokens: int | None
    seconds: float | None
    best: float  # lowest validation, in bits per byte


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.dev.speedrun", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", default="runs/speedrun", help="folder of runs (default: runs/speedrun)")
    parser.add_argument("--target", type=float, default=TARGET, help=f"bits per byte (default: {TARGET})")
    parser.add_argument("--write", type=Path, help="also update the table of this page")
    options = parser.parse_args(arguments)
    text = table(
        by_configuration([run for run in find_runs([options.root]) if run.finished], options.target), options.target
    )
    print(text)
    if options.write:
        update_blocks(options.write, {"speedrun": lambda: text})
    return 0


def by_configuration(runs: list[RunFolder], target: float) -> dict[str, list[SeedResult]]:
    """Results by the values of the keys in which the runs differ. Raises ConfigError if no run is finished."""
    if not runs:
        raise ConfigError("no finished run there.\nTry python train.py -m experiment=speedrun")
    configs = {run: dict(flatten(run.config())) for run in runs}
    keys = dict.fromkeys(key for config in configs.values() for key in config if key != "seed" and not is_unhashed(key))
    varied = [key for key in keys if len({json.dumps(config.get(key)) for config in configs.values()}) > 1]
    by_name = defaultdict(list)
    for run, config in configs.items():
        by_name[_name(config, varied)].append(time_to_target(run, target))
    return by_name


def time_to_target(run: RunFolder, target: float) -> SeedResult:
    rows = metrics.read(run.path / "metrics.jsonl")
    valid = [row for row in rows if row.get("valid_bits_per_byte") is not None]
    rate = statistics.median(row["tokens_per_s"] for row in rows if "tokens_per_s" in row)
    first = next((row for row in valid if row["valid_bits_per_byte"] <= target), None)
    best = min(row["valid_bits_per_byte"] for row in valid)
    if first is None:
        return SeedResult(None, None, None, best)
    return SeedResult(first["step"], first["tokens"], first["tokens"] / rate, best)


def table(results: dict[str, list[SeedResult]], target: float) -> str:
    """Markdown, fastest first; configurations that missed the target last."""
    lines = [
        f"| recipe | seeds | steps to {target:g} bits/byte | tokens | seconds | best |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    ordered = sorted(results.items(), key=lambda item: _mean([each.seconds for each in item[1]]) or float("inf"))
    for name, seeds in ordered:
        cells = [
            _range([each.steps for each in seeds], "{:,.0f}"),
            _range([each.tokens for each in seeds], "{:,.0f}"),
            _range([each.seconds for each in seeds], "{:.1f}"),
            _range([each.best for each in seeds], "{:.3f}"),
        ]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(values: list[Any], form: str) -> str:
    """Mean, and the range over seeds in brackets; a dash if a seed has no value."""
    if None in values:
        return "–"
    mean = form.format(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} [{form.format(min(values))}, {form.format(max(values))}]"


def _mean(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.fmean(numbers) if len(numbers) == len(values) else None


def _name(config: dict[str, Any], varied: list[str]) -> str:
    """The scheme and each varied key outside pe."""
    others = [f"{key}={format_value(config.get(key))}" for key in varied if not key.startswith("pe.")]
    return ", ".join([f"`{config['pe.name']}`", *others])


if __name__ == "__main__":
    sys.exit(guarded(main))
