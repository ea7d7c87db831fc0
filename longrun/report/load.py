"""Run folders read into plain records: what was trained, what was evaluated, per-document sums of the NLLs.

Nothing is computed here beyond sums. A file that contradicts itself or its neighbour is refused (DataError), because a
report that silently mixes a new JSON with an old parquet would carry two different numbers under one name.
"""

import json
import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from longrun.base.errors import DataError
from model.old_keys import rename_all

RUN_MARKS = ("config.yaml", "metrics.jsonl", "done", "eval")
ROW_NUMBERS = ("length", "tokens", "nll")  # what every row that was not refused must hold
AGREEMENT = 2e-3  # nats per token: JSON and parquet are written from the same float32 values


@dataclass(frozen=True)
class DocumentSums:
    """Per document of one evaluated length: ids, sum of NLL in nats, scored tokens, bytes of text; all (D,)."""

    ids: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """One eval/<protocol>[-<extension>].json and the parquet file beside it, if there is one."""

    path: Path
    record: dict
    seconds: dict[int, float] = field(default_factory=dict)  # length -> wall time of its evaluation

    @property
    def protocol(self) -> str:
        return self.record["protocol"]

    @property
    def extension(self) -> str:
        return self.record["extension"]

    @property
    def scheme(self) -> str:
        return self.record["scheme"]

    @property
    def train_length(self) -> int:
        return self.record["train_length"]

    @property
    def asks(self) -> bool:
        """Whether it counts right answers to questions."""
        return any("matches" in row for row in self.record["rows"])

    @cached_property
    def rows(self) -> dict[int, dict]:
        return {row["length"]: row for row in self.record["rows"] if "refused" not in row}

    @cached_property
    def refused(self) -> dict[int, str]:
        return {row["length"]: str(row["refused"]) for row in self.record["rows"] if "refused" in row}

    @cached_property
    def documents(self) -> dict[int, DocumentSums]:
        """Length -> per-document sums; empty without a parquet file."""
        file = self.path.with_suffix(".parquet")
        if not file.exists():
            return {}
        sums = _per_document(file)
        for length, row in self.rows.items():
            if length in sums:
                _check_agreement(file, length, sums[length], row)
        return sums

    @cached_property
    def questions(self) -> dict[int, np.ndarray]:
        """Length -> whether each question was answered rightly, in their order; empty without a parquet file."""
        import pyarrow.parquet as parquet

        file = self.path.with_suffix(".parquet")
        if not file.exists():
            return {}
        table = parquet.read_table(file, columns=["length", "document", "hit"])
        lengths, documents, hit = (table.column(name).to_numpy() for name in ("length", "document", "hit"))
        found = {}
        for length in self.rows:
            here = lengths == length
            missed = np.bincount(documents[here], ~hit[here])
            found[length] = missed == 0
            if found[length].sum() != self.rows[length]["matches"]:
                raise DataError(f"{file} does not belong to the JSON beside it (length {length}).\n{_AGAIN}")
        return found

    def positions(self, length: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Sum of NLL and number of tokens at each place of the fed window, (length,) each; None without parquet."""
        import pyarrow.parquet as parquet

        file = self.path.with_suffix(".parquet")
        if not file.exists():
            return None
        sums, counts = np.zeros(0), np.zeros(0)
        columns = ["length", "window_position", "nll"]
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1 << 20, columns=columns):
            lengths, place, nll = (batch.column(name).to_numpy(zero_copy_only=False) for name in columns)
            here = lengths == length
            sums = _padded_sum(sums, np.bincount(place[here], nll[here].astype(np.float64)))
            counts = _padded_sum(counts, np.bincount(place[here]))
        return sums, counts


@dataclass(frozen=True)
class Run:
    """One run folder. `done` is empty while the training has not finished."""

    folder: Path
    config: dict
    environment: dict
    done: dict
    training: list[dict]  # metrics rows with "loss", by step
    validation: list[dict]  # metrics rows with "valid_loss" or "valid_bits_per_byte", by step
    evaluations: list[Evaluation] = field(default_factory=list)  # of perplexity
    answers: list[Evaluation] = field(default_factory=list)  # of right answers: tasks and needles

    @property
    def scheme(self) -> str:
        for each in (*self.evaluations, *self.answers):
            return each.scheme
        pe = self.config.get("pe")
        return str(self.done.get("scheme") or (pe.get("name") if isinstance(pe, dict) else pe) or self.folder.name)

    @property
    def seed(self) -> int:
        return int(self.done.get("seed", self.config.get("seed", 0)))


def read_runs(paths: list[Path]) -> list[Run]:
    """Every run under the given roots or run folders. DataError if a folder is missing or no run is inside."""
    folders: list[Path] = []
    for path in paths:
        if not path.is_dir():
            what = "is a file, not a folder" if path.exists() else "does not exist"
            raise DataError(f"{path} {what}\nGive the root of your runs (such as runs/demo) or single run folders.")
        found = sorted(_run_folders(path))
        if not found:
            raise DataError(
                f"no run in {path}: no folder in it holds a config.yaml or an eval/ folder\n"
                f"Train one with: python train.py pe=rope root={path}"
            )
        folders += found
    unique = {folder.resolve(): folder for folder in folders}
    return [read_run(folder) for folder in unique.values()]


def _run_folders(root: Path) -> list[Path]:
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        is_run = any(mark in files for mark in RUN_MARKS[:3]) or any(Path(folder, "eval").glob("*.json"))
        if is_run:
            found.append(Path(folder))
            subfolders.clear()
    return found


def read_run(folder: Path) -> Run:
    metrics = _read_metrics(folder / "metrics.jsonl")
    costs = _read_costs(folder / "eval" / "costs.jsonl")
    evaluations = [read_evaluation(file, costs) for file in sorted((folder / "eval").glob("*.json"))]
    return Run(
        folder=folder,
        config=rename_all(_read_yaml(folder / "config.yaml")),
        environment=_read_json(folder / "environment.json"),
        done=_read_json(folder / "done"),
        training=[row for row in metrics if "loss" in row],
        validation=[row for row in metrics if "valid_loss" in row or "valid_bits_per_byte" in row],
        evaluations=[each for each in evaluations if not each.asks],
        answers=[each for each in evaluations if each.asks],
    )


def read_evaluation(file: Path, costs: dict[str, dict[int, float]]) -> Evaluation:
    """costs: "protocol" or "protocol extension" -> length -> seconds."""
    record = _read_json(file)
    for key in ("protocol", "scheme", "train_length", "targets_hash", "rows"):
        if key not in record:
            raise DataError(f"{file}: the key {key!r} is missing, so its numbers cannot be placed\n{_AGAIN}")
    record.setdefault("extension", "none")
    for row in record["rows"]:
        if "refused" not in row and not all(_is_number(row.get(key)) for key in ROW_NUMBERS):
            raise DataError(f"{file}: the row {row} needs numbers for {', '.join(ROW_NUMBERS)}\n{_AGAIN}")
        ppl, nll = row.get("ppl"), row.get("nll")
        if _is_number(ppl) and _is_number(nll) and nll < 50 and abs(ppl / math.exp(nll) - 1) > 0.01:
            raise DataError(
                f"{file}: at length {row['length']} ppl={ppl:.4g} is not exp(nll)={math.exp(nll):.4g}; "
                f"a perplexity is exp of the mean NLL, never a mean of perplexities\n{_AGAIN}"
            )
    name = record["protocol"] + ("" if record["extension"] == "none" else f" {record['extension']}")
    return Evaluation(file, record, costs.get(name, {}))


_AGAIN = "Evaluate the run again (python eval.py run=...) or delete the file."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_json(file: Path) -> dict:
    if not file.exists():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}\n{_AGAIN}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} must hold one JSON object, not {type(value).__name__}\n{_AGAIN}")
    return value


def _read_yaml(file: Path) -> dict:
    if not file.exists():
        return {}
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as YAML: {error}") from error
    return value if isinstance(value, dict) else {}


def _read_metrics(file: Path) -> list[dict]:
    """Rows by step, the later of two rows for one step (a resumed run writes some steps again).

    A last line cut short belongs to a run that is still writing or was killed: it is left out.
    """
    training, validation = {}, {}
    for row in _json_lines(file):
        if "step" in row:
            kept = training if "loss" in row else validation
            kept[row["step"]] = row
    return [rows[step] for rows in (training, validation) for step in sorted(rows)]


def _read_costs(file: Path) -> dict[str, dict[int, float]]:
    """Evaluation -> length -> seconds; a repeated evaluation counts once, with its last time."""
    costs: dict[str, dict[int, float]] = {}
    for row in _json_lines(file):
        costs.setdefault(str(row.get("evaluation")), {})[row.get("length", 0)] = row.get("seconds", math.nan)
    return costs


def _json_lines(file: Path) -> list[dict]:
    if not file.exists():
        return []
    rows = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(f"{file}, line {number}, is not JSON: {error}") from error
        rows += [row] if isinstance(row, dict) else []
    return rows


def _per_document(file: Path) -> dict[int, DocumentSums]:
    """Length -> sums, read in batches: memory stays that of one batch plus one number per document."""
    import pyarrow.parquet as parquet  # 0.2 s, and not needed to answer a wrong argument

    totals: dict[int, dict[str, np.ndarray]] = {}
    columns = ["length", "document", "nll", "bytes"]
    for batch in parquet.ParquetFile(file).iter_batches(batch_size=1 << 20, columns=columns):
        lengths, documents, nll, bytes_ = (batch.column(name).to_numpy(zero_copy_only=False) for name in columns)
        for length in np.unique(lengths):
            here = lengths == length
            total = totals.setdefault(int(length), {"nll": np.zeros(0), "tokens": np.zeros(0), "bytes": np.zeros(0)})
            weights = {"nll": nll[here].astype(np.float64), "tokens": None, "bytes": bytes_[here].astype(np.float64)}
            for name, weight in weights.items():
                total[name] = _padded_sum(total[name], np.bincount(documents[here], weight))
    return {length: _present(total) for length, total in sorted(totals.items())}


def _padded_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    return longer + np.pad(shorter, (0, len(longer) - len(shorter)))


def _present(total: dict[str, np.ndarray]) -> DocumentSums:
    ids = np.flatnonzero(total["tokens"])
    return DocumentSums(ids, total["nll"][ids], total["tokens"][ids].astype(np.int64), total["bytes"][ids])


def _check_agreement(file: Path, length: int, sums: DocumentSums, row: dict) -> None:
    tokens, mean = int(sums.tokens.sum()), float(sums.nll.sum() / max(1, sums.tokens.sum()))
    agrees = math.isclose(mean, row["nll"], rel_tol=1e-3, abs_tol=AGREEMENT) or not math.isfinite(row["nll"])
    if tokens != row["tokens"] or not agrees:
        raise DataError(
            f"{file} does not belong to the JSON beside it: at length {length} it holds {tokens} tokens with mean NLL "
            f"{mean:.4f},\nthe JSON {row['tokens']} tokens with {row['nll']:.4f}. Evaluate the run again."
        )
