"""The file of benchmark results: runs, each with its part and settings, and where and when it was measured."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from longrun.base.errors import ConfigError
from longrun.runs.environment import environment, installed
from model.precision import resolve

PACKAGES = ("torch", "transformers", "x-transformers", "numpy", "tokenizers")
Run = dict


@dataclass
class Results:
    runs: list[Run]

    @staticmethod
    def read(path: Path) -> "Results":
        """Raises ConfigError for a file that is not one of ours."""
        if not path.exists():
            return Results([])
        try:
            return Results(json.loads(path.read_text(encoding="utf-8"))["runs"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"--json {path}: not a file of benchmark results ({error}).\nGive another name."
            ) from error

    def add(self, part: str, machine: Run, result: Run) -> None:
        """In place of an older run with the same settings. Rows that were measured in processes of their own, with
        their own comparison beside them, are put beside those of the older run, and memory beside a speed."""
        new = {"part": part, "date": datetime.now(UTC).date().isoformat(), "machine": machine, **result}
        same = [run for run in self.runs if _identity(run) == _identity(new)]
        if part == "evaluation":
            rows: dict[tuple[str, int], Run] = {}
            for row in (row for run in [*same, new] for row in run["rows"]):
                key = row["scheme"], row["length"]
                known = {} if "refused" in row else rows.get(key, {})
                rows[key] = {name: value for name, value in known.items() if name != "refused"} | row
            new["rows"] = [rows[key] for key in sorted(rows)]
            new["rounds"] = max(run["rounds"] for run in [*same, new])
        self.runs = [run for run in self.runs if run not in same] + [new]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ordered = sorted(self.runs, key=lambda run: (run["part"], json.dumps(run["settings"], sort_keys=True)))
        path.write_text(json.dumps({"runs": rounded(ordered)}, indent=1) + "\n", encoding="utf-8")


def _identity(run: Run) -> str:
    machine = {key: run["machine"][key] for key in ("device", "cores", "threads")}
    return json.dumps([run["part"], run["settings"], machine], sort_keys=True)


def where(device: torch.device, threads: int) -> Run:
    """What the figures depend on besides us."""
    found = environment()
    name = torch.cuda.get_device_name() if device.type == "cuda" else found["cpu"]
    return {
        "device": name, "cores": found["cores"], "threads": threads, "native_bf16": resolve("auto", device) == "bf16",
        "python": found["python"], "packages": {package: installed(package) for package in PACKAGES},
    }  # fmt: skip


def rounded(value):
    """Four digits are more than a clock gives."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
