"""The file of benchmark results: runs, each with its part, settings, machine and date."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from longrun.base.errors import ConfigError
from longrun.runs.environment import environment, installed
from model.precision import resolve

PACKAGES = ("torch", "transformers", "x-transformers", "numpy", "tokenizers")
Run = dict[str, Any]


@dataclass
class Results:
    runs: list[Run]

    @staticmethod
    def read(path: Path) -> "Results":
        """Results of a file; empty if it does not exist. Raises ConfigError if it is not a file of results."""
        if not path.exists():
            return Results([])
        try:
            return Results(json.loads(path.read_text(encoding="utf-8"))["runs"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"--json {path}: not a file of benchmark results ({error}).\nGive another name."
            ) from error

    def add(self, part: str, machine: Run, result: Run) -> None:
        """Add a run, replacing an older one with the same settings.

        Evaluation rows are measured in a process per scheme with NoPE beside it, so they are merged with those of the
        older run, and a peak of memory with a speed.
        """
        new = {"part": part, "date": datetime.now(UTC).date().isoformat(), "machine": machine, **result}
        same = [run for run in self.runs if _identity(run) == _identity(new)]
        if part == "evaluation":
            rows: dict[tuple[str, int], Run] = {}
            for row in (row for run in [*same, new] for row in run["rows"]):
                key = row["scheme"], row["length"]
                older = {} if "refused" in row else rows.get(key, {})
                rows[key] = {name: value for name, value in older.items() if name != "refused"} | row
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


def machine_info(device: torch.device, threads: int) -> Run:
    """Hardware and software that the numbers depend on."""
    info = environment()
    name = torch.cuda.get_device_name() if device.type == "cuda" else info["cpu"]
    return {
        "device": name, "cores": info["cores"], "threads": threads, "native_bf16": resolve("auto", device) == "bf16",
        "python": info["python"], "packages": {package: installed(package) for package in PACKAGES},
    }  # fmt: skip


def rounded(value: Any) -> Any:
    """Every float with four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
