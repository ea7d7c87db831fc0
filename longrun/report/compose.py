"""The contents of a report, before any file is written: sentences, tables, figures, provenance and numbers."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longrun.report import accuracy
from longrun.report.accuracy import TaskResults
from longrun.report.charts import Figure, figures_of
from longrun.report.comparability import caveats, check_comparable
from longrun.report.findings import findings, headline
from longrun.report.load import Run, read_runs
from longrun.report.payload import payload
from longrun.report.protocol_results import ProtocolResults, results_of
from longrun.report.provenance import commands, facts
from longrun.report.series import label_of, variants_of
from longrun.report.tables import Table, tables_of


@dataclass(frozen=True)
class Report:
    name: str
    headline: str
    findings: list[tuple[str, str]]  # (lead, sentence)
    caveats: list[str]
    figures: list[Figure]
    protocols: list[tuple[str, list[Table]]]
    tasks: list[Table]
    facts: list[tuple[str, str]]  # (name, value)
    commands: list[str]
    numbers: dict[str, Any]  # see payload.py

    def json(self) -> str:
        """The text of report.json."""
        sentences = {"headline": self.headline, "findings": self.findings, "caveats": self.caveats}
        return json.dumps(sentences | self.numbers, indent=1, allow_nan=False, ensure_ascii=False)


def compose(paths: list[Path], out: Path) -> Report:
    """Read and compare the runs under `paths`. `out` appears in the command that reproduces the report.

    Raises DataError if there is nothing to report or if the runs cannot be compared.
    """
    runs = read_runs(paths)
    check_comparable(runs)
    protocols, tasks = results_of(runs), accuracy.task_results_of(runs)
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} runs"
    numbers = payload(name, runs, protocols, tasks, _styles(runs, protocols, tasks))
    command = "python -m scripts.report " + shlex.join(map(str, [*paths, "--out", out]))
    leading = protocols[0] if protocols else None
    return Report(
        name=name,
        headline=headline(leading) if leading else accuracy.headline(tasks),
        findings=findings(leading) if leading else [],
        caveats=(caveats(runs, leading.curves) if leading else []) + accuracy.caveats(tasks),
        figures=figures_of(numbers),
        protocols=[(results.protocol, tables_of(results)) for results in protocols],
        tasks=accuracy.tables(tasks),
        facts=facts(runs, protocols),
        commands=commands(runs, command),
        numbers=numbers,
    )


def _styles(runs: list[Run], protocols: list[ProtocolResults], tasks: list[TaskResults]) -> dict[str, int]:
    """Label -> number of its colour and marker, the same in every figure: curves, then tasks, then mere training."""
    variants = variants_of(runs)
    labels = sorted({curve.label for results in protocols for curve in results.curves})
    labels += sorted({curve.label for task in tasks for curve in task.curves})
    labels += [label_of(run.scheme, "none", variants[run.folder]) for run in runs]
    return {label: number for number, label in enumerate(dict.fromkeys(labels))}
