"""Accuracy: tasks by length, needles by length and depth, and the ranking of schemes over tasks.

A point pools the questions of all seeds; its Wilson interval treats them as independent. The interval of the ranking
resamples seeds and questions.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from longrun.report import number_format as fmt
from longrun.report.bootstrap import mean_reciprocal_rank, wilson
from longrun.report.comparability import ENOUGH_SEEDS
from longrun.report.load import Evaluation, Run
from longrun.report.series import Variant, label_of, variants_of
from longrun.report.tables import INTERVAL, Cell, Table

TASK = "exact_match"


@dataclass(frozen=True)
class Accuracy:
    matches: int
    trials: int

    @property
    def share(self) -> float:
        return self.matches / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.matches, self.trials)

    def plus(self, row: dict) -> "Accuracy":
        return Accuracy(self.matches + row["matches"], self.trials + row["trials"])


@dataclass
class AccuracySeries:
    """Accuracy of a scheme under one setting and extension, by length and, for needles, by (length, depth)."""

    label: str
    seeds: list[int] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    points: dict[int, Accuracy] = field(default_factory=dict)
    cells: dict[tuple[int, float], Accuracy] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def add(self, seed: int, evaluation: Evaluation) -> None:
        self.seeds.append(seed)
        self.evaluations.append(evaluation)
        self.refused |= evaluation.refused
        for length, row in evaluation.rows.items():
            self.points[length] = self.points.get(length, Accuracy(0, 0)).plus(row)
        for cell in evaluation.record.get("cells", []):
            key = cell["length"], cell["depth"]
            self.cells[key] = self.cells.get(key, Accuracy(0, 0)).plus(cell)

    def share_beyond(self, train_length: int) -> float:
        """Accuracy over all lengths beyond the training length; over all lengths if there are none."""
        beyond_it = [accuracy for length, accuracy in self.points.items() if length > train_length]
        counted = beyond_it or list(self.points.values())
        return sum(each.matches for each in counted) / max(1, sum(each.trials for each in counted))


@dataclass
class TaskResults:
    """Curves over the same questions: one task, or one variant of the needle protocol."""

    protocol: str
    data: str
    train_length: int
    curves: list[AccuracySeries] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.data if self.protocol == TASK else self.protocol

    @property
    def lengths(self) -> list[int]:
        return sorted({n for curve in self.curves for n in (*curve.points, *curve.refused)})


def task_results_of(runs: list[Run]) -> list[TaskResults]:
    """Tasks first, then needles. Curves are ordered by accuracy beyond the training length."""
    variants = variants_of(runs)
    tasks: dict[tuple, TaskResults] = {}
    curves: dict[tuple, AccuracySeries] = {}
    for run in runs:
        variant: Variant = tuple((key, value) for key, value in variants[run.folder] if not key.startswith("data."))
        for each in run.task_evaluations:
            data = str(each.record.get("data", ""))
            key = (each.protocol, data, each.record["targets_hash"], each.train_length)
            task = tasks.setdefault(key, TaskResults(each.protocol, data, each.train_length))
            label = label_of(run.scheme, each.extension, variant)
            if (key, label) not in curves:
                curves[key, label] = AccuracySeries(label)
                task.curves.append(curves[key, label])
            curves[key, label].add(run.seed, each)
    for task in tasks.values():
        task.curves.sort(key=lambda curve, task=task: (-curve.share_beyond(task.train_length), curve.label))
    return sorted(tasks.values(), key=lambda task: (task.protocol != TASK, task.protocol, task.data))


def tables(tasks: list[TaskResults]) -> list[Table]:
    """The ranking over tasks, a table per task, and for needles a heat map per curve."""
    ranked = ranking([task for task in tasks if task.protocol == TASK])
    by_task = [[by_length(task), *(heat_map(task, curve) for curve in task.curves if curve.cells)] for task in tasks]
    return [table for table in [ranked] if table.rows] + [table for group in by_task for table in group]


def by_length(task: TaskResults) -> Table:
    heads = [f"{n:,} ({fmt.ratio(n, task.train_length)})" for n in task.lengths]
    table = Table(f"answers-{task.name}", f"Accuracy: {task.name}", _note(task), ["scheme", "seeds", *heads])
    for curve in task.curves:
        cells = [_cell(curve, n, task) for n in task.lengths]
        table.rows.append([Cell(curve.label), Cell(str(len(curve.seeds))), *cells])
        table.keys.append(curve.label)
    return table


def _note(task: TaskResults) -> str:
    trials = sorted({accuracy.trials for curve in task.curves for accuracy in curve.points.values()})
    count = f"{trials[0]:,}" if trials[0] == trials[-1] else f"{trials[0]:,} to {trials[-1]:,}"
    kind = "Questions of the largest size that fits into each length" if task.protocol == TASK else "Needles in text"
    return (
        f"{kind}: share whose whole answer is the most likely text, {count} at each length over all seeds; "
        f"small: Wilson's {INTERVAL}; bold: the highest of a column. Trained at {task.train_length:,} tokens."
    )


def _cell(curve: AccuracySeries, length: int, task: TaskResults) -> Cell:
    accuracy = curve.points.get(length)
    if accuracy is None:
        return Cell("n/a", title=curve.refused.get(length, "not evaluated"))
    best = max(other.points[length].share for other in task.curves if length in other.points)
    strong = accuracy.share == best > 0 and len(task.curves) > 1
    return Cell(fmt.share(accuracy.share), _bounds(accuracy), strong=strong, depth=accuracy.share)


def _bounds(accuracy: Accuracy) -> str:
    low, high = accuracy.interval
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def heat_map(task: TaskResults, curve: AccuracySeries) -> Table:
    lengths = sorted({length for length, _ in curve.cells})
    trials = next(iter(curve.cells.values())).trials
    note = f"Accuracy by depth and length, {trials} trials per cell over all seeds; small: Wilson's {INTERVAL}."
    name = f"heat-{task.name}-{curve.label}"
    table = Table(name, f"{task.name}: {curve.label}", note, ["depth", *(f"{n:,}" for n in lengths)])
    for depth in sorted({depth for _, depth in curve.cells}):
        row = [curve.cells.get((n, depth)) for n in lengths]
        cells = [Cell(fmt.share(c.share), _bounds(c), depth=c.share) if c else Cell("n/a") for c in row]
        table.rows.append([Cell(fmt.share(depth)), *cells])
    return table


def ranking(tasks: list[TaskResults]) -> Table:
    """Mean reciprocal rank over the tasks, of the curves that have all of them; empty without two such curves."""
    by_label = [{curve.label: curve for curve in task.curves} for task in tasks]
    labels = [label for label in by_label[0] if all(label in each for each in by_label)] if by_label else []
    columns = ["scheme", "mean reciprocal rank", INTERVAL, "first", *(task.name for task in tasks)]
    note = (
        f"On each task the schemes are ranked by their accuracy beyond the training length, given in the column of the "
        f"task; 1 / rank is averaged over {fmt.plural(len(tasks), 'task')}, ties share the mean of their ranks. "
        f"{INTERVAL} and share of resamples in which a scheme is first: seeds and questions resampled."
    )
    table = Table("ranking", "Ranking over tasks", note, columns)
    matches = [_matches([each[label] for label in labels]) for each in by_label]
    complete = [each for each in matches if each is not None]
    if len(labels) < 2 or len(complete) < len(matches):
        return table
    ranked = zip(labels, mean_reciprocal_rank(complete), strict=True)
    for label, rank in sorted(ranked, key=lambda item: (-item[1].mrr, item[0])):
        shares = [each[label].share_beyond(task.train_length) for each, task in zip(by_label, tasks, strict=True)]
        cells = [Cell(f"{rank.mrr:.2f}"), Cell(f"[{rank.low:.2f}, {rank.high:.2f}]"), Cell(fmt.share(rank.first))]
        table.rows.append([Cell(label), *cells, *(Cell(fmt.share(share), depth=share) for share in shares)])
        table.keys.append(label)
    return table


def _matches(curves: list[AccuracySeries]) -> np.ndarray | None:
    """Correctness beyond the training length (curves, seeds, questions) for the common seeds; None if sizes differ."""
    by_curve = [dict(zip(curve.seeds, curve.evaluations, strict=True)) for curve in curves]
    seeds = sorted(set.intersection(*map(set, by_curve))) if by_curve else []
    rows = [[correct_beyond(each[seed]) for seed in seeds] for each in by_curve]
    sizes = {len(correct) for row in rows for correct in row}
    return np.array(rows) if len(sizes) == 1 and sizes != {0} else None


def caveats(tasks: list[TaskResults]) -> list[str]:
    few = defaultdict(list)
    for task in tasks:
        for curve in task.curves:
            if len(curve.seeds) < ENOUGH_SEEDS:
                few[len(curve.seeds)].append(f"{curve.label} on {task.name}")
    return [
        f"{fmt.plural(seeds, 'seed')} of {names[0]}{' and others' if names[1:] else ''}: "
        f"a claim about a scheme needs at least {ENOUGH_SEEDS}."
        for seeds, names in few.items()
    ]


def headline(tasks: list[TaskResults]) -> str:
    """For a report without perplexities."""
    names = fmt.listing([task.name for task in tasks])
    schemes = len({curve.label for task in tasks for curve in task.curves})
    return f"{fmt.plural(schemes, 'scheme')} on {names}: accuracy beyond the training length"


def correct_beyond(evaluation: Evaluation) -> np.ndarray:
    """Correctness at lengths beyond the training length (Q,), shortest first.

    Lengths that the encoding refuses count as wrong; lengths for which the task has no questions are left out.
    """
    correct = evaluation.correct
    trials = max((len(each) for each in correct.values()), default=0)
    parts = []
    for row in sorted(evaluation.record["rows"], key=lambda row: row["length"]):
        if row["length"] > evaluation.train_length and row.get("by") != "data":
            parts.append(correct.get(row["length"], np.zeros(trials, bool)))
    return np.concatenate(parts) if parts else np.zeros(0, bool)
