"""What lies in a folder of runs, and how two runs differ.

    python -m scripts.runs [ROOT ...]
    python -m scripts.runs --diff RUN RUN

A run is `done`, `running` (a process holds its lock), `stopped` (its command continues it) or `empty`. Needs no torch.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from longrun.base.errors import ConfigError
from longrun.config.cli import guarded
from longrun.runs.metrics import read
from longrun.runs.run_folder import UNHASHED_KEYS, RunFolder, resolve_run

COLUMNS = ("run", "status", "scheme", "step", "of", "loss", "ppl 1x", "ppl 4x")
REFUSED = "n/a"  # the encoding has no such positions
UNKNOWN = "-"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.runs", description=__doc__.splitlines()[0])
    parser.add_argument("roots", nargs="*", default=["runs"], metavar="ROOT", help="folder of runs (default: runs)")
    parser.add_argument("--diff", nargs=2, metavar="RUN", help="the keys in which two runs differ")
    options = parser.parse_args(arguments)
    if options.diff:
        lines = difference(*(Path(resolve_run(path)) for path in options.diff))
        print("\n".join(lines) if lines else "the configurations are the same")
        return 0
    print("\n".join(aligned([COLUMNS, *(row(folder) for folder in found(options.roots))])))
    return 0


def found(roots: list[str]) -> list[RunFolder]:
    """The run folders among `roots` and up to three levels below them. Raises ConfigError if there is none."""
    depths = ("", "*/", "*/*/", "*/*/*/")
    paths = {path.parent for root in roots for depth in depths for path in Path(root).glob(f"{depth}config.yaml")}
    outermost = sorted(path for path in paths if paths.isdisjoint(path.parents))  # wandb keeps a config.yaml in a run
    if not outermost:
        what = (
            "no run in it, and none below" if any(Path(root).exists() for root in roots) else "there is no such folder"
        )
        raise ConfigError(f"{' '.join(roots)}: {what}.\nTry python train.py train.steps=100")
    return [RunFolder(path) for path in outermost]


def row(folder: RunFolder) -> tuple[str, ...]:
    config, rows = folder.config(), list(read(folder.path / "metrics.jsonl"))
    losses = [each for each in rows if "loss" in each]
    length = config["train"]["length"]
    return (
        str(folder.path),
        status(folder, bool(rows)),
        config["pe"]["name"],
        str(losses[-1]["step"] if losses else 0),
        str(config["train"]["steps"]),
        decimals(losses[-1]["loss"], 3) if losses else UNKNOWN,
        perplexity(folder.path, length),
        perplexity(folder.path, 4 * length),
    )


def decimals(number: float | None, places: int) -> str:
    return "nan" if number is None else f"{number:.{places}f}"  # metrics.jsonl writes null for what is not finite


def status(folder: RunFolder, has_rows: bool) -> str:
    if folder.finished:
        return "done"
    try:
        folder.check_free()
    except ConfigError:
        return "running"
    return "stopped" if has_rows else "empty"


def perplexity(run: Path, length: int) -> str:
    """Under fixed_targets, or whatever else the run was measured with that has a perplexity at this length."""
    files = [run / "eval" / "fixed_targets.json", *sorted((run / "eval").glob("*.json"))]
    for path in files:
        record = json.loads(path.read_text()) if path.is_file() else {"rows": [], "extension": "none"}
        for each in record["rows"]:
            if each["length"] == length and record["extension"] == "none":
                return decimals(each["ppl"], 2) if "ppl" in each else REFUSED
    return UNKNOWN


def difference(first: Path, second: Path) -> list[str]:
    """A line for each key whose values differ: what makes them different runs first."""
    both = []
    for path in (first, second):
        folder = RunFolder(path)
        if not folder.started:
            raise ConfigError(f"{path}: no run, it has no config.yaml.\nFor a list of runs: python -m scripts.runs")
        both.append(dict(flat(folder.config())))
    keys = [
        key for key in dict.fromkeys([*both[0], *both[1]]) if both[0].get(key, UNKNOWN) != both[1].get(key, UNKNOWN)
    ]
    keys.sort(key=outside)
    lines = [
        (key, *(shown(values[key]) if key in values else UNKNOWN for values in both), "no" if outside(key) else "yes")
        for key in keys
    ]
    return aligned([("key", first.name, second.name, "changes the weights"), *lines]) if lines else []


def outside(key: str) -> bool:
    """Whether the key has no influence on the trained weights."""
    return any(key == part or key.startswith(f"{part}.") for part in UNHASHED_KEYS)


def flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def shown(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True).splitlines()[0].removesuffix("...").strip()
    )


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width; numbers to the right."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    numbers = [all(c in "-0123456789.na/" for line in rows[1:] for c in line[column]) for column in range(len(widths))]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in rows
    ]


if __name__ == "__main__":
    sys.exit(guarded(main))
