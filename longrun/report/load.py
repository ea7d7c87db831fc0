"""Run folders as plain records: configuration, training metrics, evaluations and per-document sums of the NLL.

Nothing is computed here beyond sums. A file that contradicts itself or the file beside it is refused (DataError): a
report that mixes a new JSON with an old parquet file would give two numbers the same name.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from longrun.base.errors import DataError
from longrun.runs import metrics
from longrun.runs.run_folder import RunFolder

RUN_FILES = ("config.yaml", "metrics.jsonl", "done")  # a folder with one of these, or with eval/*.json, is a run
RECORD_KEYS = ("protocol", "scheme", "train_length", "targets_hash", "rows")
ROW_NUMBERS = ("length", "tokens", "nll")  # required of every row that was not refused
TOLERANCE = 2e-3  # nats per token: JSON and parquet are written from the same float32 values
BATCH_ROWS = 1 << 20  # rows of a parquet file held at a time
ADVICE = "Evaluate the run again (python eval.py run=...) or delete the file."


@dataclass(frozen=True)
class DocumentSums:
    """Per document of one evaluated length: ids, sum of NLL in nats, scored tokens, bytes of text; all (D,)."""

    ids: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """One eval/<protocol>[-<extension>].json and the parquet file of per-token scores beside it, if there is one."""

    path: Path
    record: dict[str, Any]
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
    def measures_accuracy(self) -> bool:
        """True for tasks and needles, which count correct answers; False for perplexity."""
        return any("matches" in row for row in self.record["rows"])

    @cached_property
    def rows(self) -> dict[int, dict[str, Any]]:
        """Length -> measured row."""
        return {row["length"]: row for row in self.record["rows"] if "refused" not in row}

    @cached_property
    def refused(self) -> dict[int, str]:
        """Length -> reason why the encoding cannot be evaluated there."""
        return {row["length"]: str(row["refused"]) for row in self.record["rows"] if "refused" in row}

    @cached_property
    def documents(self) -> dict[int, DocumentSums]:
        """Length -> per-document sums; empty without a parquet file. Raises DataError if they contradict the JSON."""
        if not self._scores.exists():
            return {}
        sums = _per_document(self._scores)
        for length, row in self.rows.items():
            if length in sums:
                _check_agreement(self._scores, length, sums[length], row)
        return sums

    @cached_property
    def correct(self) -> dict[int, np.ndarray]:
        """Length -> correctness of each question (Q,) bool, in their order; empty without a parquet file.

        Raises DataError if the counts differ from the JSON's.
        """
        import pyarrow.parquet as parquet

        if not self._scores.exists():
            return {}
        table = parquet.read_table(self._scores, columns=["length", "document", "hit"])
        lengths, documents, hit = (table.column(name).to_numpy() for name in ("length", "document", "hit"))
        correct = {}
        for length, row in self.rows.items():
            here = lengths == length
            correct[length] = np.bincount(documents[here], ~hit[here]) == 0  # no wrong token in the answer
            if correct[length].sum() != row["matches"]:
                raise DataError(f"{self._scores} does not belong to the JSON beside it (length {length}).\n{ADVICE}")
        return correct

    def by_position(self, length: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Sum of the NLL and number of tokens per position of the window, (length,) each; None without parquet."""
        if not self._scores.exists():
            return None
        sums, counts = np.zeros(0), np.zeros(0)
        for lengths, positions, nll in _batches(self._scores, ["length", "window_position", "nll"]):
            here = lengths == length
            sums = _padded_sum(sums, np.bincount(positions[here], nll[here].astype(np.float64)))
            counts = _padded_sum(counts, np.bincount(positions[here]))
        return sums, counts

    @property
    def _scores(self) -> Path:
        return self.path.with_suffix(".parquet")


@dataclass(frozen=True)
class Run:
    """One run folder. `done` is empty while the training has not finished."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    done: dict[str, Any]
    training: list[dict[str, Any]]  # metrics rows with "loss", by step
    validation: list[dict[str, Any]]  # metrics rows with "valid_loss" or "valid_bits_per_byte", by step
    evaluations: list[Evaluation] = field(default_factory=list)  # of perplexity
    task_evaluations: list[Evaluation] = field(default_factory=list)  # of accuracy: tasks and needles

    @property
    def all_evaluations(self) -> list[Evaluation]:
        return [*self.evaluations, *self.task_evaluations]

    @property
    def scheme(self) -> str:
        for each in self.all_evaluations:
            return each.scheme
        pe = self.config.get("pe")
        return str(self.done.get("scheme") or (pe.get("name") if isinstance(pe, dict) else pe) or self.folder.name)

    @property
    def seed(self) -> int:
        return int(self.done.get("seed", self.config.get("seed", 0)))


def read_runs(paths: list[Path]) -> list[Run]:
    """Every run under the given roots or run folders. Raises DataError if a folder is missing or holds no run."""
    folders: list[Path] = []
    for path in paths:
        if not path.is_dir():
            problem = "is a file, not a folder" if path.exists() else "does not exist"
            raise DataError(f"{path} {problem}\nGive the root of your runs (such as runs/demo) or single run folders.")
        inside = sorted(_run_folders(path))
        if not inside:
            raise DataError(
                f"no run in {path}: no folder in it holds a config.yaml or an eval/ folder\n"
                f"Train one with: python train.py pe=rope root={path}"
            )
        folders += inside
    unique = {folder.resolve(): folder for folder in folders}
    return [read_run(folder) for folder in unique.values()]


def _run_folders(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if any(name in files for name in RUN_FILES) or any(Path(folder, "eval").glob("*.json")):
            yield Path(folder)
            subfolders.clear()


def read_run(folder: Path) -> Run:
    rows = _read_metrics(folder / "metrics.jsonl")
    costs = _read_costs(folder / "eval" / "costs.jsonl")
    evaluations = [read_evaluation(file, costs) for file in sorted((folder / "eval").glob("*.json"))]
    return Run(
        folder=folder,
        config=_read_config(folder),
        environment=_read_optional_json(folder / "environment.json"),
        done=_read_optional_json(folder / "done"),
        training=[row for row in rows if "loss" in row],
        validation=[row for row in rows if "valid_loss" in row or "valid_bits_per_byte" in row],
        evaluations=[each for each in evaluations if not each.measures_accuracy],
        task_evaluations=[each for each in evaluations if each.measures_accuracy],
    )


def read_evaluation(file: Path, costs: dict[str, dict[int, float]]) -> Evaluation:
    """One evaluation, checked. costs: "protocol" or "protocol extension" -> length -> seconds.

    Raises DataError if a key or number is missing, or if a perplexity is not exp(mean NLL).
    """
    record = _read_json(file)
    for key in RECORD_KEYS:
        if key not in record:
            raise DataError(f"{file}: the key {key!r} is missing, so its numbers cannot be placed\n{ADVICE}")
    record.setdefault("extension", "none")
    for row in record["rows"]:
        if "refused" not in row and not all(_is_number(row.get(key)) for key in ROW_NUMBERS):
            raise DataError(f"{file}: the row {row} needs numbers for {', '.join(ROW_NUMBERS)}\n{ADVICE}")
        ppl, nll = row.get("ppl"), row.get("nll")
        if _is_number(ppl) and _is_number(nll) and nll < 50 and abs(ppl / math.exp(nll) - 1) > 0.01:
            raise DataError(
                f"{file}: at length {row['length']} ppl={ppl:.4g} is not exp(nll)={math.exp(nll):.4g}; "
                f"a perplexity is exp of the mean NLL, never a mean of perplexities\n{ADVICE}"
            )
    name = record["protocol"] + ("" if record["extension"] == "none" else f" {record['extension']}")
    return Evaluation(file, record, costs.get(name, {}))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_json(file: Path) -> dict[str, Any]:
    from longrun.evaluation import results

    try:
        value = results.read(file)
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}\n{ADVICE}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} must hold one JSON object, not {type(value).__name__}\n{ADVICE}")
    return value


def _read_optional_json(file: Path) -> dict[str, Any]:
    return _read_json(file) if file.exists() else {}


def _read_config(folder: Path) -> dict[str, Any]:
    run = RunFolder(folder)
    try:
        return run.config() or {} if run.started else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / 'config.yaml'} cannot be read as YAML: {error}") from error


def _read_rows(file: Path) -> list[dict[str, Any]]:
    try:
        return metrics.read(file)
    except ValueError as error:
        raise DataError(f"{file}: a line is not JSON: {error}") from error


def _read_metrics(file: Path) -> list[dict[str, Any]]:
    """Training rows, then validation rows, each by step. A resumed run repeats steps: the later row counts."""
    training, validation = {}, {}
    for row in _read_rows(file):
        if "step" in row:
            (training if "loss" in row else validation)[row["step"]] = row
    return [rows[step] for rows in (training, validation) for step in sorted(rows)]


def _read_costs(file: Path) -> dict[str, dict[int, float]]:
    """Evaluation -> length -> seconds; a repeated evaluation counts once, with its last time."""
    costs: dict[str, dict[int, float]] = {}
    for row in _read_rows(file):
        costs.setdefault(str(row.get("evaluation")), {})[row.get("length", 0)] = row.get("seconds", math.nan)
    return costs


def _batches(file: Path, columns: list[str]) -> Iterator[list[np.ndarray]]:
    """The columns of a parquet file in batches: memory stays that of one batch."""
    import pyarrow.parquet as parquet  # takes 0.2 s; a wrong argument is refused before

    for batch in parquet.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS, columns=columns):
        yield [batch.column(name).to_numpy(zero_copy_only=False) for name in columns]


def _per_document(file: Path) -> dict[int, DocumentSums]:
    """Length -> sums per document."""
    totals: dict[int, dict[str, np.ndarray]] = {}
    for lengths, documents, nll, bytes_ in _batches(file, ["length", "document", "nll", "bytes"]):
        for length in np.unique(lengths):
            here = lengths == length
            total = totals.setdefault(int(length), {"nll": np.zeros(0), "tokens": np.zeros(0), "bytes": np.zeros(0)})
            weights = {"nll": nll[here].astype(np.float64), "tokens": None, "bytes": bytes_[here].astype(np.float64)}
            for name, weight in weights.items():
                total[name] = _padded_sum(total[name], np.bincount(documents[here], weight))
    return {length: _without_empty(total) for length, total in sorted(totals.items())}


def _padded_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    return longer + np.pad(shorter, (0, len(longer) - len(shorter)))


def _without_empty(total: dict[str, np.ndarray]) -> DocumentSums:
    """Sums of the documents that have scored tokens."""
    ids = np.flatnonzero(total["tokens"])
    return DocumentSums(ids, total["nll"][ids], total["tokens"][ids].astype(np.int64), total["bytes"][ids])


def _check_agreement(file: Path, length: int, sums: DocumentSums, row: dict[str, Any]) -> None:
    """Raise DataError if the parquet file and the JSON row differ in tokens or in mean NLL."""
    tokens, mean = int(sums.tokens.sum()), float(sums.nll.sum() / max(1, sums.tokens.sum()))
    agrees = math.isclose(mean, row["nll"], rel_tol=1e-3, abs_tol=TOLERANCE) or not math.isfinite(row["nll"])
    if tokens != row["tokens"] or not agrees:
        raise DataError(
            f"{file} does not belong to the JSON beside it: at length {length} it holds {tokens} tokens with mean NLL "
            f"{mean:.4f},\nthe JSON {row['tokens']} tokens with {row['nll']:.4f}. Evaluate the run again."
        )
