"""Tables of run folders: their state, and the difference of two configurations. Needs no torch.

A run is `done`, `running` (a process holds its lock), `stopped` (its command continues it) or `empty`.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from longrun.base.errors import ConfigError
from longrun.runs import metrics
from longrun.runs.run_folder import UNHASHED_KEYS, RunFolder

COLUMNS = ("run", "status", "scheme", "step", "of", "loss", "ppl 1x", "ppl 4x")
REFUSED = "n/a"  # the encoding has no such positions
UNKNOWN = "-"
DEPTHS = ("", "*/", "*/*/", "*/*/*/")  # run folders are searched in a root and three levels below it


def find_runs(roots: list[str]) -> list[RunFolder]:
    """The run folders in and below `roots`. Raises ConfigError if there is none."""
    paths = {path.parent for root in roots for depth in DEPTHS for path in Path(root).glob(f"{depth}config.yaml")}
    outermost = sorted(path for path in paths if paths.isdisjoint(path.parents))  # wandb keeps a config.yaml in a run
    if not outermost:
        exists = any(Path(root).exists() for root in roots)
        problem = "no run in it, and none below" if exists else "there is no such folder"
        raise ConfigError(f"{' '.join(roots)}: {problem}.\nTry python train.py train.steps=100")
    return [RunFolder(path) for path in outermost]


def table(folders: list[RunFolder]) -> str:
    return "\n".join(_aligned([COLUMNS, *map(_row, folders)]))


def _row(folder: RunFolder) -> tuple[str, ...]:
    config, rows = folder.config(), metrics.read(folder.path / "metrics.jsonl")
    losses = [row for row in rows if "loss" in row]
    length = config["train"]["length"]
    return (
        str(folder.path),
        status(folder, bool(rows)),
        config["pe"]["name"],
        str(losses[-1]["step"] if losses else 0),
        str(config["train"]["steps"]),
        _decimals(losses[-1]["loss"], 3) if losses else UNKNOWN,
        _perplexity(folder.path, length),
        _perplexity(folder.path, 4 * length),
    )


def status(folder: RunFolder, has_rows: bool) -> str:
    if folder.finished:
        return "done"
    try:
        folder.check_free()
    except ConfigError:
        return "running"
    return "stopped" if has_rows else "empty"


def _decimals(number: float | None, places: int) -> str:
    return "nan" if number is None else f"{number:.{places}f}"  # metrics.jsonl has null for what is not finite


def _perplexity(run: Path, length: int) -> str:
    """Perplexity under fixed_targets, else under the first other protocol that measured this length."""
    from longrun.evaluation import results

    first = run / "eval" / "fixed_targets.json"
    for path in [*([first] if first.is_file() else []), *sorted((run / "eval").glob("*.json"))]:
        record = results.read(path)
        for row in record["rows"] if record["extension"] == "none" else []:
            if row["length"] == length:
                return _decimals(row["ppl"], 2) if "ppl" in row else REFUSED
    return UNKNOWN


def config_difference(first: Path, second: Path) -> str:
    """One line per key whose values differ, keys that change the trained weights first; "" if there is none.

    Raises ConfigError if a folder is not a run.
    """
    configs = []
    for path in (first, second):
        folder = RunFolder(path)
        if not folder.started:
            raise ConfigError(f"{path}: no run, it has no config.yaml.\nFor a list of runs: python -m scripts.runs")
        configs.append(dict(flatten(folder.config())))
    every = dict.fromkeys([*configs[0], *configs[1]])
    keys = [key for key in every if configs[0].get(key, UNKNOWN) != configs[1].get(key, UNKNOWN)]
    rows = []
    for key in sorted(keys, key=is_unhashed):
        values = [format_value(config[key]) if key in config else UNKNOWN for config in configs]
        rows.append((key, *values, "no" if is_unhashed(key) else "yes"))
    return "\n".join(_aligned([("key", first.name, second.name, "changes the weights"), *rows])) if rows else ""


def is_unhashed(key: str) -> bool:
    """True if the key has no influence on the trained weights."""
    return is_below(key, UNHASHED_KEYS)


def is_below(key: str, sections: Collection[str]) -> bool:
    """True if the dotted key is one of `sections` or lies in one of them."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested config -> ("train.length", 128), ..."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def format_value(value: Any) -> str:
    """A value as it is written in YAML, on one line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0].removesuffix("...").strip()


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, numbers right-aligned."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(c in "-0123456789.na/" for cell in column[1:] for c in cell) for column in columns]
    styles = list(zip(widths, numeric, strict=True))
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, (width, number) in zip(row, styles, strict=True)
        ).rstrip()
        for row in rows
    ]
